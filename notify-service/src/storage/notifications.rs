//! The inbox.

use platform::time::{from_micros, to_micros};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::ROWS;
use super::entities::notifications::{Column, Entity, Model};
use crate::domain::notification::Notification;

/// Adds entries, each to its owner's inbox.
pub(crate) async fn insert(
    db: &impl ConnectionTrait,
    entries: &[(Uuid, Notification)],
) -> Result<(), DbErr> {
    for entries in entries.chunks(ROWS) {
        let mut insert = Query::insert()
            .into_table(Entity)
            .columns([
                Column::Id,
                Column::UserId,
                Column::Kind,
                Column::Priority,
                Column::Title,
                Column::Text,
                Column::EntityType,
                Column::EntityId,
                Column::Read,
                Column::CreatedAt,
            ])
            .to_owned();
        for (user_id, entry) in entries {
            insert.values_panic([
                entry.id.into(),
                (*user_id).into(),
                entry.kind.as_str().into(),
                entry.priority.as_str().into(),
                entry.title.as_str().into(),
                entry.text.as_str().into(),
                entry.entity_type.as_str().into(),
                entry.entity_id.as_str().into(),
                entry.read.into(),
                to_micros(entry.created_at).into(),
            ]);
        }
        db.execute(&insert).await?;
    }
    Ok(())
}

/// One entry of a user's inbox.
pub(crate) async fn find(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Notification>, DbErr> {
    let row = Entity::find_by_id(id)
        .filter(Column::UserId.eq(user_id))
        .one(db)
        .await?;
    Ok(row.map(entry))
}

/// A page of a user's inbox, newest first: before an id, and only `read` or unread ones when said.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    before: Option<Uuid>,
    read: Option<bool>,
    limit: u64,
) -> Result<Vec<Notification>, DbErr> {
    let mut query = Entity::find().filter(Column::UserId.eq(user_id));
    if let Some(before) = before {
        query = query.filter(Column::Id.lt(before));
    }
    if let Some(read) = read {
        query = query.filter(Column::Read.eq(read));
    }
    // UUIDv7: the order of the ids is the order of creation.
    let rows = query.order_by_desc(Column::Id).limit(limit).all(db).await?;
    Ok(rows.into_iter().map(entry).collect())
}

/// Sets the read state of one entry; whether that changed anything.
pub(crate) async fn mark(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    id: Uuid,
    read: bool,
) -> Result<bool, DbErr> {
    let changed = Entity::update_many()
        .col_expr(Column::Read, Expr::value(read))
        .filter(Column::Id.eq(id))
        .filter(Column::UserId.eq(user_id))
        .filter(Column::Read.eq(!read))
        .exec(db)
        .await?;
    Ok(changed.rows_affected > 0)
}

/// The newest of the unread entries, at most `limit` of them.
pub(crate) async fn unread_ids(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    limit: u64,
) -> Result<Vec<Uuid>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::UserId.eq(user_id))
        .filter(Column::Read.eq(false))
        .order_by_desc(Column::Id)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await
}

/// Marks those entries as read; how many were unread.
pub(crate) async fn mark_read(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    ids: &[Uuid],
) -> Result<u64, DbErr> {
    let changed = Entity::update_many()
        .col_expr(Column::Read, Expr::value(true))
        .filter(Column::Id.is_in(ids.iter().copied()))
        .filter(Column::UserId.eq(user_id))
        .filter(Column::Read.eq(false))
        .exec(db)
        .await?;
    Ok(changed.rows_affected)
}

/// The oldest entries of a user, at most `limit`: their ids and whether they were read. With `cutoff` only those that
/// were made before.
pub(crate) async fn oldest(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    cutoff: Option<i64>,
    limit: u64,
) -> Result<Vec<(Uuid, bool)>, DbErr> {
    let mut query = Entity::find()
        .select_only()
        .columns([Column::Id, Column::Read])
        .filter(Column::UserId.eq(user_id));
    if let Some(cutoff) = cutoff {
        query = query.filter(Column::CreatedAt.lt(cutoff));
    }
    query
        .order_by_asc(Column::Id)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await
}

/// Owners of the oldest entries made before `cutoff`, one for each of at most `limit` entries.
pub(crate) async fn owners_of_old(
    db: &impl ConnectionTrait,
    cutoff: i64,
    limit: u64,
) -> Result<Vec<Uuid>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::UserId)
        .filter(Column::CreatedAt.lt(cutoff))
        .order_by_asc(Column::CreatedAt)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await
}

/// Removes these entries of a user; how many there were.
pub(crate) async fn delete_all(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    ids: Vec<Uuid>,
) -> Result<u64, DbErr> {
    let removed = Entity::delete_many()
        .filter(Column::Id.is_in(ids))
        .filter(Column::UserId.eq(user_id))
        .exec(db)
        .await?;
    Ok(removed.rows_affected)
}

/// Removes one entry.
pub(crate) async fn delete(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    id: Uuid,
) -> Result<(), DbErr> {
    Entity::delete_many()
        .filter(Column::Id.eq(id))
        .filter(Column::UserId.eq(user_id))
        .exec(db)
        .await?;
    Ok(())
}

fn entry(row: Model) -> Notification {
    Notification {
        id: row.id,
        kind: row.kind,
        priority: row.priority,
        title: row.title,
        text: row.text,
        entity_type: row.entity_type,
        entity_id: row.entity_id,
        read: row.read,
        created_at: from_micros(row.created_at),
    }
}
