//! How far each device has read.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType, OnConflict, Query};
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

/// Whether there are devices that have not acknowledged since `cutoff`.
pub(crate) async fn any_stale(db: &impl ConnectionTrait, cutoff: i64) -> Result<bool, DbErr> {
    let row = Entity::find()
        .select_only()
        .column(Column::UserId)
        .filter(Column::UpdatedAt.lt(cutoff))
        .into_tuple::<Uuid>()
        .one(db)
        .await?;
    Ok(row.is_some())
}

/// Forgets devices that have not acknowledged since `cutoff`, at most `limit`, and none that another transaction is at;
/// how many.
pub(crate) async fn forget_stale(
    db: &impl ConnectionTrait,
    cutoff: i64,
    limit: u64,
) -> Result<u64, DbErr> {
    let stale: Vec<(Uuid, String)> = Entity::find()
        .select_only()
        .columns([Column::UserId, Column::Device])
        .filter(Column::UpdatedAt.lt(cutoff))
        .order_by_asc(Column::UpdatedAt)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple()
        .all(db)
        .await?;
    let mut forgotten = 0;
    for (user_id, devices) in by_user(stale) {
        let removed = Entity::delete_many()
            .filter(Column::UserId.eq(user_id))
            .filter(Column::Device.is_in(devices))
            .exec(db)
            .await?;
        forgotten += removed.rows_affected;
    }
    Ok(forgotten)
}

fn by_user(devices: Vec<(Uuid, String)>) -> BTreeMap<Uuid, Vec<String>> {
    let mut users: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    for (user_id, device) in devices {
        users.entry(user_id).or_default().push(device);
    }
    users
}
