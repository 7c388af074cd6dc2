//! The numbered streams: heads and events.

use std::collections::HashMap;

use sea_orm::sea_query::{Alias, Expr, ExprTrait, OnConflict, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::ROWS;
use super::entities::{stream_events, streams};
use crate::domain::position::Extent;

/// What one user's stream and inbox grow by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) user_id: Uuid,
    /// Numbers of the stream.
    pub(crate) numbers: i64,
    /// Entries of the inbox, all unread.
    pub(crate) entries: i64,
}

/// Takes the next numbers of streams. Returns the last of each. The rows stay locked until the transaction ends, so that
/// numbers become visible in order; `growths` must be in the order of the user ids, each once, so that nobody waits in a
/// circle.
pub(crate) async fn advance(
    db: &impl ConnectionTrait,
    growths: &[Growth],
) -> Result<HashMap<Uuid, i64>, DbErr> {
    use streams::{Column, Entity};
    let mut heads = HashMap::new();
    for growths in growths.chunks(ROWS) {
        let mut insert = Query::insert()
            .into_table(Entity)
            .columns([
                Column::UserId,
                Column::Head,
                Column::FirstKept,
                Column::Unread,
                Column::Entries,
                Column::TestsUntil,
            ])
            .to_owned();
        for growth in growths {
            insert.values_panic([
                growth.user_id.into(),
                growth.numbers.into(),
                1_i64.into(),
                growth.entries.into(),
                growth.entries.into(),
                0_i64.into(),
            ]);
        }
        let grown = |column: Column| {
            let more = Expr::col((Alias::new("excluded"), column));
            Expr::col((Entity, column)).add(more)
        };
        let mut conflict = OnConflict::column(Column::UserId);
        for column in [Column::Head, Column::Unread, Column::Entries] {
            conflict.value(column, grown(column));
        }
        insert
            .on_conflict(conflict)
            .returning(Query::returning().columns([Column::UserId, Column::Head]));
        for row in db.query_all(&insert).await? {
            heads.insert(row.try_get("", "user_id")?, row.try_get("", "head")?);
        }
    }
    Ok(heads)
}

/// Locks a user's row until the transaction ends, and makes it when there is none.
pub(crate) async fn lock_or_make(
    db: &impl ConnectionTrait,
    user_id: Uuid,
) -> Result<streams::Model, DbErr> {
    if lock(db, user_id).await?.is_none() {
        make(db, user_id).await?;
    }
    let row = lock(db, user_id).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("stream_heads".to_owned()))
}

/// Makes an empty stream where there is none; one that another transaction makes at the same time is waited for.
async fn make(db: &impl ConnectionTrait, user_id: Uuid) -> Result<(), DbErr> {
    use streams::{Column, Entity};
    let insert = Query::insert()
        .into_table(Entity)
        .columns([
            Column::UserId,
            Column::Head,
            Column::FirstKept,
            Column::Unread,
            Column::Entries,
            Column::TestsUntil,
        ])
        .values_panic([
            user_id.into(),
            0_i64.into(),
            1_i64.into(),
            0_i64.into(),
            0_i64.into(),
            0_i64.into(),
        ])
        .on_conflict(OnConflict::column(Column::UserId).do_nothing().to_owned())
        .to_owned();
    db.execute(&insert).await?;
    Ok(())
}

/// Locks a user's row and returns it; `None` when the user was never told anything.
pub(crate) async fn lock(
    db: &impl ConnectionTrait,
    user_id: Uuid,
) -> Result<Option<streams::Model>, DbErr> {
    streams::Entity::find_by_id(user_id)
        .lock_exclusive()
        .one(db)
        .await
}

/// Changes the numbers of unread notifications and of all notifications by so many.
pub(crate) async fn count(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    unread: i64,
    entries: i64,
) -> Result<(), DbErr> {
    use streams::{Column, Entity};
    Entity::update_many()
        .col_expr(Column::Unread, Expr::col(Column::Unread).add(unread))
        .col_expr(Column::Entries, Expr::col(Column::Entries).add(entries))
        .filter(Column::UserId.eq(user_id))
        .exec(db)
        .await?;
    Ok(())
}

/// Notes up to when a user's test notifications are used up. The row must be locked.
pub(crate) async fn set_tests_until(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    until: i64,
) -> Result<(), DbErr> {
    use streams::{Column, Entity};
    Entity::update_many()
        .col_expr(Column::TestsUntil, Expr::value(until))
        .filter(Column::UserId.eq(user_id))
        .exec(db)
        .await?;
    Ok(())
}

/// Users who have more than `most` notifications.
pub(crate) async fn too_full(
    db: &impl ConnectionTrait,
    most: i64,
    limit: u64,
) -> Result<Vec<Uuid>, DbErr> {
    use streams::{Column, Entity};
    Entity::find()
        .select_only()
        .column(Column::UserId)
        .filter(Column::Entries.gt(most))
        .limit(limit)
        .into_tuple()
        .all(db)
        .await
}

/// The extent of a user's stream and the number of unread notifications.
pub(crate) async fn read(db: &impl ConnectionTrait, user_id: Uuid) -> Result<(Extent, i64), DbErr> {
    let row = streams::Entity::find_by_id(user_id).one(db).await?;
    Ok(row.map_or_else(Default::default, |row| (extent(&row), row.unread)))
}

/// The numbers of a row.
pub(crate) fn extent(row: &streams::Model) -> Extent {
    Extent {
        head: row.head,
        first_kept: row.first_kept,
    }
}

/// Writes events whose numbers were taken by [`advance`].
pub(crate) async fn append(
    db: &impl ConnectionTrait,
    events: Vec<stream_events::Model>,
) -> Result<(), DbErr> {
    use stream_events::{Column, Entity};
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let mut insert = Query::insert()
            .into_table(Entity)
            .columns([
                Column::UserId,
                Column::Seq,
                Column::Topic,
                Column::Event,
                Column::At,
                Column::StoredAt,
                Column::DataJson,
                Column::Traceparent,
            ])
            .to_owned();
        for event in events.by_ref().take(ROWS) {
            insert.values_panic([
                event.user_id.into(),
                event.seq.into(),
                event.topic.into(),
                event.event.into(),
                event.at.into(),
                event.stored_at.into(),
                event.data_json.into(),
                event.traceparent.into(),
            ]);
        }
        db.execute(&insert).await?;
    }
    Ok(())
}

/// A page of a user's events after a number, in order.
pub(crate) async fn events_after(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    after: i64,
    limit: u64,
) -> Result<Vec<stream_events::Model>, DbErr> {
    use stream_events::{Column, Entity};
    Entity::find()
        .filter(Column::UserId.eq(user_id))
        .filter(Column::Seq.gt(after))
        .order_by_asc(Column::Seq)
        .limit(limit)
        .all(db)
        .await
}

/// The oldest events written before `cutoff`: user and number.
pub(crate) async fn expired(
    db: &impl ConnectionTrait,
    cutoff: i64,
    limit: u64,
) -> Result<Vec<(Uuid, i64)>, DbErr> {
    use stream_events::{Column, Entity};
    Entity::find()
        .select_only()
        .column(Column::UserId)
        .column(Column::Seq)
        .filter(Column::StoredAt.lt(cutoff))
        .order_by_asc(Column::StoredAt)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await
}

/// Users who have more than `most` events.
pub(crate) async fn too_long(
    db: &impl ConnectionTrait,
    most: i64,
    limit: u64,
) -> Result<Vec<Uuid>, DbErr> {
    use streams::{Column, Entity};
    let length = Expr::col(Column::Head).sub(Expr::col(Column::FirstKept));
    Entity::find()
        .select_only()
        .column(Column::UserId)
        .filter(length.gte(most))
        .limit(limit)
        .into_tuple()
        .all(db)
        .await
}

/// Removes a user's events before `first_kept` and notes it. The row must be locked.
pub(crate) async fn trim(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    first_kept: i64,
) -> Result<u64, DbErr> {
    streams::Entity::update_many()
        .col_expr(streams::Column::FirstKept, Expr::value(first_kept))
        .filter(streams::Column::UserId.eq(user_id))
        .exec(db)
        .await?;
    let removed = stream_events::Entity::delete_many()
        .filter(stream_events::Column::UserId.eq(user_id))
        .filter(stream_events::Column::Seq.lt(first_kept))
        .exec(db)
        .await?;
    Ok(removed.rows_affected)
}
