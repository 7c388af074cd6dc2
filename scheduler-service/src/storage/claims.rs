//! Messages that somebody has to do something about: those to be claimed, and those to be asked for.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use platform::{Error, time};
use sea_orm::sea_query::{
    CaseStatement, CommonTableExpression, Expr, ExprTrait, Func, LockBehavior, LockType, Order,
    Query, SelectStatement, WithClause,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use uuid::Uuid;

use super::instant;
use super::messages::{CHUNK, Column, Entity, Model, in_micros, state_of};
use crate::domain::MessageState;

/// A message that was just claimed.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub(crate) struct Claimed {
    pub(crate) id: Uuid,
    pub(crate) phone: String,
    pub(crate) attempt: i64,
}

/// A message of which the provider has to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) id: Uuid,
    pub(crate) set_id: Uuid,
    pub(crate) state: MessageState,
    pub(crate) attempt: i64,
    pub(crate) provider_message_id: Option<String>,
    pub(crate) deadline_at: Option<Timestamp>,
}

/// Ids of the first queued messages of a set.
fn first_queued(set_id: Uuid, limit: u64) -> SelectStatement {
    Query::select()
        .column(Column::Id)
        .from(Entity)
        .and_where(Expr::col(Column::SetId).eq(set_id))
        .and_where(Expr::col(Column::State).eq(MessageState::Queued.as_str()))
        .order_by(Column::Phone, Order::Asc)
        .limit(limit)
        .to_owned()
}

/// How long a claim holds and how long its messages may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) now: Timestamp,
    /// When others may ask what became of the messages.
    pub(crate) asked_from: Timestamp,
    /// Pause between two such questions.
    pub(crate) pause: Duration,
    /// How long after the first attempt it is all over.
    pub(crate) deadline: Duration,
}

/// The name under which a statement knows the rows that it picked.
const PICKED: &str = "picked";

/// Rows picked once, whatever the plan: PostgreSQL may run a sub-select with a limit again for each row of the outer
/// statement, and with `SKIP LOCKED` find other rows each time.
pub(super) fn pick(rows: SelectStatement) -> (WithClause, SelectStatement) {
    let mut picked = CommonTableExpression::new();
    picked.table_name(PICKED).query(rows).materialized(true);
    let ids = Query::select().column(Column::Id).from(PICKED).to_owned();
    (WithClause::new().cte(picked).to_owned(), ids)
}

/// Claims queued messages of a set whose schedule this transaction has locked.
pub(crate) async fn claim(
    tx: &DatabaseTransaction,
    set_id: Uuid,
    limit: u64,
    terms: Terms,
) -> Result<Vec<Claimed>, Error> {
    let deadline_at = time::to_micros(terms.now + terms.deadline);
    let (with, picked) = pick(first_queued(set_id, limit));
    let mut update = Query::update();
    update
        .with_cte(with)
        .table(Entity)
        .value(Column::State, MessageState::Sending.as_str())
        .value(Column::Attempt, Expr::col(Column::Attempt).add(1_i64))
        .value(Column::DueAt, time::to_micros(terms.asked_from))
        .value(Column::PauseUs, in_micros(terms.pause))
        // The deadline runs from the first attempt.
        .value(
            Column::DeadlineAt,
            Func::coalesce([Expr::col(Column::DeadlineAt), Expr::val(deadline_at)]),
        )
        .value(Column::UpdatedAt, time::to_micros(terms.now))
        .and_where(Expr::col(Column::Id).in_subquery(picked))
        .returning(Query::returning().columns([Column::Id, Column::Phone, Column::Attempt]));
    let rows = tx.query_all(&update).await?;
    Ok(rows
        .iter()
        .map(|row| Claimed::from_query_result(row, ""))
        .collect::<Result<_, _>>()?)
}

/// Strikes queued messages of a set whose schedule this transaction has locked. Tells how many.
pub(crate) async fn cancel_queued(
    tx: &DatabaseTransaction,
    set_id: Uuid,
    limit: u64,
    now: Timestamp,
) -> Result<u64, Error> {
    let (with, picked) = pick(first_queued(set_id, limit));
    let mut update = Query::update();
    update
        .with_cte(with)
        .table(Entity)
        .value(Column::State, MessageState::Cancelled.as_str())
        .value(Column::DueAt, Option::<i64>::None)
        .value(Column::UpdatedAt, time::to_micros(now))
        .and_where(Expr::col(Column::Id).in_subquery(picked));
    Ok(tx.execute(&update).await?.rows_affected())
}

/// Renews the lease of those of these messages whose lease is still the one that ends at `from`; gives their ids. Of the
/// others somebody has asked the provider, or they have come to another state.
pub(crate) async fn renew(
    tx: &DatabaseTransaction,
    ids: &[Uuid],
    from: Timestamp,
    to: Timestamp,
) -> Result<HashSet<Uuid>, Error> {
    let mut renewed = HashSet::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let mut update = Query::update();
        update
            .table(Entity)
            .value(Column::DueAt, time::to_micros(to))
            .and_where(Expr::col(Column::Id).is_in(chunk.iter().copied()))
            .and_where(Expr::col(Column::State).eq(MessageState::Sending.as_str()))
            .and_where(Expr::col(Column::DueAt).eq(time::to_micros(from)))
            .returning(Query::returning().column(Column::Id));
        for row in tx.query_all(&update).await? {
            renewed.insert(row.try_get_by_index(0)?);
        }
    }
    Ok(renewed)
}

/// Ends leases by `at` at the latest: for whoever knows that those who held them are gone.
pub(crate) async fn shorten_leases(tx: &DatabaseTransaction, at: Timestamp) -> Result<u64, Error> {
    let mut update = Query::update();
    update
        .table(Entity)
        .value(Column::DueAt, time::to_micros(at))
        .and_where(Expr::col(Column::State).eq(MessageState::Sending.as_str()))
        .and_where(Expr::col(Column::DueAt).gt(time::to_micros(at)));
    Ok(tx.execute(&update).await?.rows_affected())
}

/// When the next message is due.
pub(crate) async fn next_due(db: &impl ConnectionTrait) -> Result<Option<Timestamp>, Error> {
    let mut query = Query::select();
    query
        .expr(Expr::col(Column::DueAt).min())
        .from(Entity)
        .and_where(Expr::col(Column::DueAt).is_not_null());
    let row = db.query_one(&query).await?;
    let at = row
        .map(|row| row.try_get_by_index::<Option<i64>>(0))
        .transpose()?
        .flatten();
    Ok(instant(at))
}

/// Takes messages that are due at `now`, the longest waiting first, and puts each off by its pause from `base` on, but
/// not over its deadline; the pause grows by half up to `longest`. Whoever dies after this only asks later.
pub(crate) async fn take_due(
    tx: &DatabaseTransaction,
    now: Timestamp,
    base: Timestamp,
    longest: Duration,
    limit: u64,
) -> Result<Vec<Due>, Error> {
    let now = time::to_micros(now);
    let mut due = Query::select();
    due.column(Column::Id)
        .from(Entity)
        .and_where(Expr::col(Column::DueAt).lte(now))
        .order_by(Column::DueAt, Order::Asc)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let (with, picked) = pick(due);
    let next = || Expr::col(Column::PauseUs).add(time::to_micros(base));
    let grown = || Expr::col(Column::PauseUs).mul(3_i64).div(2_i64);
    let longest = in_micros(longest);
    let crosses_deadline = Expr::col(Column::DeadlineAt)
        .gt(now)
        .and(next().gt(Expr::col(Column::DeadlineAt)));
    let mut update = Query::update();
    update
        .with_cte(with)
        .table(Entity)
        .value(
            Column::DueAt,
            CaseStatement::new()
                .case(crosses_deadline, Expr::col(Column::DeadlineAt))
                .finally(next()),
        )
        .value(
            Column::PauseUs,
            CaseStatement::new()
                .case(grown().gt(longest), Expr::val(longest))
                .finally(grown()),
        )
        .and_where(Expr::col(Column::Id).in_subquery(picked))
        .returning_all();
    let rows = tx.query_all(&update).await?;
    rows.iter()
        .map(|row| {
            let row = Model::from_query_result(row, "")?;
            Ok(Due {
                id: row.id,
                set_id: row.set_id,
                state: state_of(&row.state)?,
                attempt: row.attempt,
                provider_message_id: row.provider_message_id,
                deadline_at: instant(row.deadline_at),
            })
        })
        .collect()
}
