//! How far each device has read.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::entities::acknowledgements::{Column, Entity};

/// The last number that a device acknowledged.
pub(crate) async fn find(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    device: &str,
) -> Result<Option<i64>, DbErr> {
    let row = Entity::find_by_id((user_id, device.to_owned()))
        .one(db)
        .await?;
    Ok(row.map(|row| row.seq))
}

/// Notes a number, unless the device has acknowledged it or a later one before.
pub(crate) async fn put(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    device: &str,
    seq: i64,
    now: i64,
) -> Result<(), DbErr> {
    let forward = Expr::col((Entity, Column::Seq)).lt(Expr::val(seq));
    let statement = Query::insert()
        .into_table(Entity)
        .columns([
            Column::UserId,
            Column::Device,
            Column::Seq,
            Column::UpdatedAt,
        ])
        .values_panic([user_id.into(), device.into(), seq.into(), now.into()])
        .on_conflict(
            OnConflict::columns([Column::UserId, Column::Device])
                .update_columns([Column::Seq, Column::UpdatedAt])
                .action_and_where(forward)
                .to_owned(),
        )
        .to_owned();
    db.execute(&statement).await?;
    Ok(())
}

/// Forgets all but the `most` devices of a user that acknowledged last.
pub(crate) async fn keep_newest(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    most: u64,
) -> Result<(), DbErr> {
    let surplus: Vec<String> = Entity::find()
        .select_only()
        .column(Column::Device)
        .filter(Column::UserId.eq(user_id))
        .order_by_desc(Column::UpdatedAt)
        .order_by_desc(Column::Seq)
        .offset(most)
        .limit(most)
        .into_tuple()
        .all(db)
        .await?;
    if !surplus.is_empty() {
        Entity::delete_many()
            .filter(Column::UserId.eq(user_id))
            .filter(Column::Device.is_in(surplus))
            .exec(db)
            .await?;
    }
    Ok(())
}

/// Devices that have not acknowledged since `cutoff`.
pub(crate) async fn stale(
    db: &impl ConnectionTrait,
    cutoff: i64,
    limit: u64,
) -> Result<Vec<(Uuid, String)>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::UserId)
        .column(Column::Device)
        .filter(Column::UpdatedAt.lt(cutoff))
        .order_by_asc(Column::UpdatedAt)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await
}

/// Forgets a device, unless it has acknowledged since `cutoff`.
pub(crate) async fn forget(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    device: &str,
    cutoff: i64,
) -> Result<(), DbErr> {
    Entity::delete_many()
        .filter(Column::UserId.eq(user_id))
        .filter(Column::Device.eq(device))
        .filter(Column::UpdatedAt.lt(cutoff))
        .exec(db)
        .await?;
    Ok(())
}
