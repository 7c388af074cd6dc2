//! Rows of messages.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use platform::{Error, id, time};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{
    CaseStatement, CommonTableExpression, Expr, ExprTrait, Func, LockBehavior, LockType,
    OnConflict, Order, Query, SelectStatement, WithClause,
};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, FromQueryResult, IntoActiveModel, QueryOrder,
    QuerySelect, QueryTrait,
};

use super::{instant, micros};
use crate::domain::{MessageState, Phone};

/// Rows of one statement that has several parameters a row. SQLite allows 32,766 parameters, PostgreSQL 65,535.
const CHUNK: usize = 500;

/// A row of `sms_messages`. A message belongs to a set of recipients; it counts once a schedule names that set.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_messages")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub set_id: Uuid,
    #[sea_orm(column_type = "Text")]
    pub phone: String,
    #[sea_orm(column_type = "Text")]
    pub state: String,
    /// How often it was claimed.
    pub attempt: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub provider_message_id: Option<String>,
    /// When somebody has to ask the provider about it: the end of its lease, or the next question.
    pub due_at: Option<i64>,
    /// Pause to the question after that, in microseconds.
    pub pause_us: i64,
    /// When it becomes `UNKNOWN` at last.
    pub deadline_at: Option<i64>,
    pub sent_at: Option<i64>,
    pub updated_at: i64,
    #[sea_orm(column_type = "Text")]
    pub error: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// One message of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: Uuid,
    pub(crate) phone: String,
    pub(crate) state: MessageState,
    pub(crate) provider_message_id: String,
    pub(crate) sent_at: Option<Timestamp>,
    pub(crate) updated_at: Timestamp,
    pub(crate) error: String,
}

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

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) id: Uuid,
    pub(crate) set_id: Uuid,
    pub(crate) state: MessageState,
    pub(crate) attempt: i64,
}

fn state_of(word: &str) -> Result<MessageState, Error> {
    MessageState::parse(word)
        .ok_or_else(|| Error::internal(anyhow::anyhow!("a message has the state {word:?}")))
}

/// Adds a queued message to a set for each number that it does not have yet. Tells how many those were.
pub(crate) async fn insert_new(
    tx: &DatabaseTransaction,
    set_id: Uuid,
    phones: &[Phone],
    now: Timestamp,
) -> Result<u64, Error> {
    let mut added = 0;
    for chunk in phones.chunks(CHUNK) {
        let rows = chunk.iter().map(|phone| {
            let row = Model {
                id: id::new(now),
                set_id,
                phone: phone.as_str().to_owned(),
                state: MessageState::Queued.as_str().to_owned(),
                attempt: 0,
                provider_message_id: None,
                due_at: None,
                pause_us: 0,
                deadline_at: None,
                sent_at: None,
                updated_at: time::to_micros(now),
                error: String::new(),
            };
            sea_orm::ActiveModelTrait::reset_all(row.into_active_model())
        });
        let mut insert = Entity::insert_many(rows).into_query();
        insert.on_conflict(
            OnConflict::columns([Column::SetId, Column::Phone])
                .do_nothing()
                .to_owned(),
        );
        added += tx.execute(&insert).await?.rows_affected();
    }
    Ok(added)
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
fn pick(rows: SelectStatement) -> (WithClause, SelectStatement) {
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

/// Where these messages stand.
pub(crate) async fn positions(
    tx: &DatabaseTransaction,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<Vec<Position>, Error> {
    let rows: Vec<(Uuid, Uuid, String, i64)> = Entity::find()
        .select_only()
        .columns([Column::Id, Column::SetId, Column::State, Column::Attempt])
        .filter(Column::Id.is_in(ids))
        .into_tuple()
        .all(tx)
        .await?;
    rows.into_iter()
        .map(|(id, set_id, state, attempt)| {
            Ok(Position {
                id,
                set_id,
                state: state_of(&state)?,
                attempt,
            })
        })
        .collect()
}

/// Notes that the provider has these messages, each with the provider's id, and when to ask first.
pub(crate) async fn set_sent(
    tx: &DatabaseTransaction,
    sent: &[(Uuid, String)],
    now: Timestamp,
    first_question: Timestamp,
    pause: Duration,
) -> Result<(), Error> {
    for chunk in sent.chunks(CHUNK) {
        let mut ids = CaseStatement::new();
        for (id, provider_message_id) in chunk {
            ids = ids.case(
                Expr::col(Column::Id).eq(*id),
                Expr::val(provider_message_id.as_str()),
            );
        }
        let mut update = Query::update();
        update
            .table(Entity)
            .value(Column::State, MessageState::Sent.as_str())
            .value(Column::ProviderMessageId, ids)
            .value(Column::SentAt, time::to_micros(now))
            .value(Column::UpdatedAt, time::to_micros(now))
            .value(Column::DueAt, time::to_micros(first_question))
            .value(Column::PauseUs, in_micros(pause))
            .value(Column::Error, "")
            .and_where(Expr::col(Column::Id).is_in(chunk.iter().map(|(id, _)| *id)));
        tx.execute(&update).await?;
    }
    Ok(())
}

/// Moves these messages to a state. On the way (`ENROUTE`) they stay due as they are; else nobody asks any more.
pub(crate) async fn set_state(
    tx: &DatabaseTransaction,
    ids: &[Uuid],
    state: MessageState,
    error: &str,
    now: Timestamp,
) -> Result<(), Error> {
    for chunk in ids.chunks(CHUNK) {
        let mut update = Query::update();
        update
            .table(Entity)
            .value(Column::State, state.as_str())
            .value(Column::UpdatedAt, time::to_micros(now))
            .value(Column::Error, error)
            .and_where(Expr::col(Column::Id).is_in(chunk.iter().copied()));
        if state != MessageState::Enroute {
            update.value(Column::DueAt, micros(None));
        }
        tx.execute(&update).await?;
    }
    Ok(())
}

/// Removes messages of a set that no schedule names. Tells how many.
pub(crate) async fn delete_some(
    tx: &DatabaseTransaction,
    set_id: Uuid,
    limit: u64,
) -> Result<u64, Error> {
    let some = Query::select()
        .column(Column::Id)
        .from(Entity)
        .and_where(Expr::col(Column::SetId).eq(set_id))
        .order_by(Column::Phone, Order::Asc)
        .limit(limit)
        .to_owned();
    let (with, picked) = pick(some);
    let mut delete = Query::delete();
    delete
        .with_cte(with)
        .from_table(Entity)
        .and_where(Expr::col(Column::Id).in_subquery(picked));
    Ok(tx.execute(&delete).await?.rows_affected())
}

/// A page of a set's messages in the order of the number, of those after `after`.
pub(crate) async fn page(
    db: &impl ConnectionTrait,
    set_id: Uuid,
    state: Option<MessageState>,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Listed>, Error> {
    let mut query = Entity::find().filter(Column::SetId.eq(set_id));
    if let Some(state) = state {
        query = query.filter(Column::State.eq(state.as_str()));
    }
    if let Some(after) = after {
        query = query.filter(Column::Phone.gt(after));
    }
    let rows = query
        .order_by_asc(Column::Phone)
        .limit(limit)
        .all(db)
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Listed {
                id: row.id,
                phone: row.phone,
                state: state_of(&row.state)?,
                provider_message_id: row.provider_message_id.unwrap_or_default(),
                sent_at: instant(row.sent_at),
                updated_at: time::from_micros(row.updated_at),
                error: row.error,
            })
        })
        .collect()
}

fn in_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}
