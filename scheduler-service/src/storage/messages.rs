//! Rows of messages.

use std::time::Duration;

use jiff::Timestamp;
use platform::{Error, id, time};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, OnConflict, Order, Query};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, IntoActiveModel, QueryOrder, QuerySelect, QueryTrait,
};

use super::{claims, instant, micros};
use crate::domain::{MessageState, Phone};

/// Rows of one statement that has several parameters a row. SQLite allows 32,766 parameters, PostgreSQL 65,535.
pub(super) const CHUNK: usize = 500;

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

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) id: Uuid,
    pub(crate) set_id: Uuid,
    pub(crate) state: MessageState,
    pub(crate) attempt: i64,
}

pub(super) fn state_of(word: &str) -> Result<MessageState, Error> {
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
    let (with, picked) = claims::pick(some);
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

pub(super) fn in_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}
