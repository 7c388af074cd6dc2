//! Mails to send. A mail is claimed by an UPDATE that moves its due time behind the lease and counts the attempt; the
//! attempt is the fence: who comes back after the lease has passed on changes nothing. A mail that has ended keeps the
//! time of that as its due time, by which retention finds it.

use std::collections::HashSet;

use jiff::Timestamp;
use platform::time::{from_micros, to_micros};
use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType, OnConflict, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect,
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

/// Claims up to `limit` due mails until `until`, oldest first, but none of `except`. What another replica claims at the same moment is left
/// to it rather than waited for.
pub(crate) async fn claim(
    db: &impl ConnectionTrait,
    now: Timestamp,
    until: Timestamp,
    limit: u64,
    except: Vec<Uuid>,
) -> Result<Vec<Model>, DbErr> {
    let now = to_micros(now);
    let due: Vec<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::State.eq(QUEUED))
        .filter(Column::DueAt.lte(now))
        .filter(Column::Id.is_not_in(except))
        .order_by_asc(Column::DueAt)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple()
        .all(db)
        .await?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let statement = Query::update()
        .table(Entity)
        .value(Column::DueAt, to_micros(until))
        .value(Column::Attempts, Expr::col(Column::Attempts).add(1_i64))
        .value(Column::UpdatedAt, now)
        .and_where(Expr::col(Column::Id).is_in(due))
        .returning_all()
        .to_owned();
    let rows = db.query_all(&statement).await?;
    let mails = rows.iter().map(|row| Model::from_query_result(row, ""));
    let mut mails = mails.collect::<Result<Vec<_>, _>>()?;
    mails.sort_by_key(|mail| mail.id);
    Ok(mails)
}

/// Which claim: the mail and its fence.
pub(crate) type Claim = (Uuid, i64);

/// Makes claims hold until `until`, those of them that still are ours; these it returns.
pub(crate) async fn extend(
    db: &impl ConnectionTrait,
    claims: impl IntoIterator<Item = Claim>,
    until: Timestamp,
) -> Result<HashSet<Claim>, DbErr> {
    let statement = Query::update()
        .table(Entity)
        .value(Column::DueAt, to_micros(until))
        .cond_where(ours(claims))
        .returning(Query::returning().columns([Column::Id, Column::Attempts]))
        .to_owned();
    let rows = db.query_all(&statement).await?;
    let held = rows
        .iter()
        .map(|row| Ok((row.try_get("", "id")?, row.try_get("", "attempts")?)));
    held.collect()
}

/// Gives claims back as if they had never been made, those of them that still are ours.
pub(crate) async fn release(
    db: &impl ConnectionTrait,
    claims: impl IntoIterator<Item = Claim>,
    now: Timestamp,
) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::DueAt, Expr::value(to_micros(now)))
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).sub(1_i64))
        .filter(ours(claims))
        .exec(db)
        .await?;
    Ok(())
}

fn ours(claims: impl IntoIterator<Item = Claim>) -> Condition {
    let each = |(id, fence)| {
        Condition::all()
            .add(Column::Id.eq(id))
            .add(Column::Attempts.eq(fence))
    };
    let any = claims
        .into_iter()
        .map(each)
        .fold(Condition::any(), Condition::add);
    Condition::all().add(Column::State.eq(QUEUED)).add(any)
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
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It left: the secret goes.
    Sent,
    /// Its secret does not work any more: it goes too.
    Expired,
    /// To be tried again at that time.
    Retry { at: Timestamp, error: String },
    /// Given up. The secret stays, sealed, until it expires, so that an operator can bring the mail back.
    Failed { error: String },
}

/// Ends a claim; whether it was still ours.
pub(crate) async fn settle(
    db: &impl ConnectionTrait,
    claim: Claim,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let now = to_micros(now);
    let mut update = Entity::update_many()
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(ours([claim]));
    let gone = || Expr::value(Option::<Vec<u8>>::None);
    let (state, due_at) = match outcome {
        Outcome::Sent => (SENT, now),
        Outcome::Expired => (EXPIRED, now),
        Outcome::Retry { at, .. } => (QUEUED, to_micros(*at)),
        Outcome::Failed { .. } => (FAILED, now),
    };
    update = update
        .col_expr(Column::State, Expr::value(state))
        .col_expr(Column::DueAt, Expr::value(due_at));
    update = match outcome {
        Outcome::Sent => update
            .col_expr(Column::LastError, Expr::value(""))
            .col_expr(Column::Sealed, gone()),
        Outcome::Expired => update.col_expr(Column::Sealed, gone()),
        Outcome::Retry { error, .. } | Outcome::Failed { error } => {
            update.col_expr(Column::LastError, Expr::value(error.as_str()))
        }
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
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple::<Uuid>()
        .all(db)
        .await?;
    if late.is_empty() {
        return Ok(0);
    }
    let changed = Entity::update_many()
        .col_expr(Column::Sealed, Expr::value(Option::<Vec<u8>>::None))
        .col_expr(Column::State, Expr::value(EXPIRED))
        .col_expr(Column::DueAt, Expr::value(to_micros(now)))
        .filter(Column::Id.is_in(late))
        .exec(db)
        .await?;
    Ok(changed.rows_affected)
}

/// One mail.
#[cfg(test)]
pub(crate) async fn find(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
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
        .filter(Column::DueAt.lt(to_micros(cutoff)))
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
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
