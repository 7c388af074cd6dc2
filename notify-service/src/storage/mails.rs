//! Mails to send. A mail is claimed by an UPDATE that moves its due time behind the lease and counts the attempt; the
//! attempt is the fence: who comes back after the lease has passed on changes nothing.

use jiff::Timestamp;
use platform::time::{from_micros, to_micros};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::entities::mails::{Column, Entity, Model};

/// Waits to be sent, first or again.
pub(crate) const QUEUED: &str = "queued";
/// Was handed to the channel.
pub(crate) const SENT: &str = "sent";
/// Was given up; can be brought back while its secret works.
pub(crate) const FAILED: &str = "failed";
/// Came too late: its secret does not work any more.
pub(crate) const EXPIRED: &str = "expired";

/// A mail as it is asked for.
pub(crate) struct NewMail {
    pub(crate) id: Uuid,
    pub(crate) event_id: Uuid,
    pub(crate) user_id: String,
    pub(crate) template: String,
    pub(crate) locale: String,
    pub(crate) sealed: Vec<u8>,
    pub(crate) expires_at: Timestamp,
    pub(crate) traceparent: String,
}

/// Queues a mail, unless the same fact has asked for it before.
pub(crate) async fn insert(
    db: &impl ConnectionTrait,
    mail: NewMail,
    now: Timestamp,
) -> Result<(), DbErr> {
    let now = to_micros(now);
    let statement = Query::insert()
        .into_table(Entity)
        .columns([
            Column::Id,
            Column::EventId,
            Column::UserId,
            Column::Template,
            Column::Locale,
            Column::Sealed,
            Column::State,
            Column::Attempts,
            Column::DueAt,
            Column::ExpiresAt,
            Column::CreatedAt,
            Column::UpdatedAt,
            Column::LastError,
            Column::Traceparent,
        ])
        .values_panic([
            mail.id.into(),
            mail.event_id.into(),
            mail.user_id.into(),
            mail.template.into(),
            mail.locale.into(),
            mail.sealed.into(),
            QUEUED.into(),
            0_i64.into(),
            now.into(),
            to_micros(mail.expires_at).into(),
            now.into(),
            now.into(),
            "".into(),
            mail.traceparent.into(),
        ])
        .on_conflict(OnConflict::column(Column::EventId).do_nothing().to_owned())
        .to_owned();
    db.execute(&statement).await?;
    Ok(())
}

/// Claims up to `limit` due mails until `until`, oldest first.
pub(crate) async fn claim(
    db: &impl ConnectionTrait,
    now: Timestamp,
    until: Timestamp,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let now = to_micros(now);
    let due = Query::select()
        .column(Column::Id)
        .from(Entity)
        .and_where(Expr::col(Column::State).eq(QUEUED))
        .and_where(Expr::col(Column::DueAt).lte(now))
        .order_by(Column::DueAt, sea_orm::Order::Asc)
        .limit(limit)
        .to_owned();
    // The conditions stand twice: PostgreSQL checks the outer ones again once another claim lets go of the row.
    let statement = Query::update()
        .table(Entity)
        .value(Column::DueAt, to_micros(until))
        .value(Column::Attempts, Expr::col(Column::Attempts).add(1_i64))
        .value(Column::UpdatedAt, now)
        .and_where(Expr::col(Column::Id).in_subquery(due))
        .and_where(Expr::col(Column::State).eq(QUEUED))
        .and_where(Expr::col(Column::DueAt).lte(now))
        .returning_all()
        .to_owned();
    let rows = db.query_all(&statement).await?;
    rows.iter()
        .map(|row| Model::from_query_result(row, ""))
        .collect()
}

/// Makes every queued mail due: for a start on a database that nobody else works on.
pub(crate) async fn release_all(db: &impl ConnectionTrait, now: Timestamp) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::DueAt, Expr::value(to_micros(now)))
        .filter(Column::State.eq(QUEUED))
        .filter(Column::DueAt.gt(to_micros(now)))
        .exec(db)
        .await?;
    Ok(())
}

/// What a claim of a mail ends with.
pub(crate) enum Outcome<'a> {
    /// It left: the secret goes.
    Sent,
    /// Its secret does not work any more: it goes too.
    Expired,
    /// To be tried again at that time.
    Retry { at: Timestamp, error: &'a str },
    /// Given up. The secret stays, sealed, until it expires, so that an operator can bring the mail back.
    Failed { error: &'a str },
}

/// Ends a claim; whether it was still ours.
pub(crate) async fn settle(
    db: &impl ConnectionTrait,
    claimed: &Model,
    outcome: Outcome<'_>,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let mut update = Entity::update_many()
        .col_expr(Column::UpdatedAt, Expr::value(to_micros(now)))
        .filter(Column::Id.eq(claimed.id))
        .filter(Column::State.eq(QUEUED))
        .filter(Column::Attempts.eq(claimed.attempts));
    let gone = || Expr::value(Option::<Vec<u8>>::None);
    update = match outcome {
        Outcome::Sent => update
            .col_expr(Column::State, Expr::value(SENT))
            .col_expr(Column::LastError, Expr::value(""))
            .col_expr(Column::Sealed, gone()),
        Outcome::Expired => update
            .col_expr(Column::State, Expr::value(EXPIRED))
            .col_expr(Column::Sealed, gone()),
        Outcome::Retry { at, error } => update
            .col_expr(Column::DueAt, Expr::value(to_micros(at)))
            .col_expr(Column::LastError, Expr::value(error)),
        Outcome::Failed { error } => update
            .col_expr(Column::State, Expr::value(FAILED))
            .col_expr(Column::LastError, Expr::value(error)),
    };
    Ok(update.exec(db).await?.rows_affected > 0)
}

/// When the next mail is due.
pub(crate) async fn next_due(db: &impl ConnectionTrait) -> Result<Option<Timestamp>, DbErr> {
    let due: Option<i64> = Entity::find()
        .select_only()
        .column(Column::DueAt)
        .filter(Column::State.eq(QUEUED))
        .order_by_asc(Column::DueAt)
        .into_tuple()
        .one(db)
        .await?;
    Ok(due.map(from_micros))
}

/// Puts mails that were given up back into the queue, if their secret still works; how many.
pub(crate) async fn requeue_failed(
    db: &impl ConnectionTrait,
    now: Timestamp,
) -> Result<u64, DbErr> {
    let now = to_micros(now);
    let changed = Entity::update_many()
        .col_expr(Column::State, Expr::value(QUEUED))
        .col_expr(Column::Attempts, Expr::value(0_i64))
        .col_expr(Column::DueAt, Expr::value(now))
        .filter(Column::State.eq(FAILED))
        .filter(Column::Sealed.is_not_null())
        .filter(Column::ExpiresAt.gt(now))
        .exec(db)
        .await?;
    Ok(changed.rows_affected)
}

/// Drops the secrets of given-up mails that do not work any more, at most `limit`.
pub(crate) async fn drop_expired_secrets(
    db: &impl ConnectionTrait,
    now: Timestamp,
    limit: u64,
) -> Result<u64, DbErr> {
    let late = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::State.eq(FAILED))
        .filter(Column::ExpiresAt.lte(to_micros(now)))
        .limit(limit)
        .into_tuple::<Uuid>()
        .all(db)
        .await?;
    if late.is_empty() {
        return Ok(0);
    }
    let changed = Entity::update_many()
        .col_expr(Column::Sealed, Expr::value(Option::<Vec<u8>>::None))
        .col_expr(Column::State, Expr::value(EXPIRED))
        .filter(Column::Id.is_in(late))
        .filter(Column::State.eq(FAILED))
        .exec(db)
        .await?;
    Ok(changed.rows_affected)
}

/// Removes rows of mails that ended before `cutoff`, at most `limit`.
pub(crate) async fn remove_ended(
    db: &impl ConnectionTrait,
    cutoff: Timestamp,
    limit: u64,
) -> Result<u64, DbErr> {
    let old = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::State.is_in([SENT, EXPIRED]))
        .filter(Column::UpdatedAt.lt(to_micros(cutoff)))
        .limit(limit)
        .into_tuple::<Uuid>()
        .all(db)
        .await?;
    if old.is_empty() {
        return Ok(0);
    }
    let removed = Entity::delete_many()
        .filter(Column::Id.is_in(old))
        .exec(db)
        .await?;
    Ok(removed.rows_affected)
}
