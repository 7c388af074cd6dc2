//! The outbox: events are rows of the transaction that they tell of, and a relay carries them to the bus.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType, Order, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::event_bus::{Envelope, EventBus, PublishError};
use crate::shutdown::Tasks;
use crate::work::Work;
use crate::{Error, time};

pub(crate) use row::Model as Row;

/// Rows taken at a time.
const BATCH: u64 = 128;
/// Batches under way at a time.
const IN_FLIGHT: usize = 8;
/// How long a row is left to the relay that took it.
const LEASE: Duration = Duration::from_secs(60);
/// How long the relay sleeps when nothing is told.
const IDLE: Duration = Duration::from_secs(1);
/// First pause after the bus did not take an event; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause before the bus is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Rows in one INSERT.
const INSERT_CHUNK: usize = 500;

/// Writes events into the transaction that they tell of.
pub(crate) async fn insert(tx: &impl ConnectionTrait, mut rows: Vec<Row>) -> Result<(), Error> {
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(INSERT_CHUNK));
        let models = rows
            .into_iter()
            .map(row::ActiveModel::from)
            .map(|mut model| {
                model = sea_orm::ActiveModelTrait::reset_all(model);
                model
            });
        row::Entity::insert_many(models)
            .exec_without_returning(tx)
            .await?;
        rows = rest;
    }
    Ok(())
}

/// Number of events that were committed and not yet taken by the bus.
///
/// # Errors
/// As any query.
pub async fn unsent(db: &impl ConnectionTrait) -> Result<u64, Error> {
    Ok(sea_orm::PaginatorTrait::count(row::Entity::find(), db).await?)
}

/// Carries events from the outbox to the bus, at least once and in no promised order.
///
/// A row is leased, published, and deleted once the bus has confirmed it. A relay that dies leaves its rows to the next
/// one after a minute; at its start a relay that is alone on its database takes them at once.
pub struct Relay {
    work: Work,
    bus: Arc<dyn EventBus>,
    alone: bool,
}

impl Relay {
    /// A relay of the service's outbox. On SQLite it is alone on its database.
    pub fn new(work: Work, bus: Arc<dyn EventBus>) -> Self {
        let alone = work.db().backend() == DbBackend::Sqlite;
        Self { work, bus, alone }
    }

    /// Starts the relay as a background task; it ends when `tasks` is cancelled.
    pub fn run(self, tasks: &Tasks) {
        let token = tasks.token();
        let name = format!("{}-relay", self.work.source());
        tasks.spawn_critical(name, async move {
            if self.alone
                && let Err(error) = self.release_all().await
            {
                tracing::warn!(%error, "could not take over the outbox of the last run");
            }
            self.carry(token).await;
        });
    }

    async fn carry(&self, token: CancellationToken) {
        let mut flying = FuturesUnordered::new();
        // Rows under way in this process, which a lease that ran out must not send a second time.
        let mut ids: HashSet<Uuid> = HashSet::new();
        let mut more = true;
        while !token.is_cancelled() {
            if more && flying.len() < IN_FLIGHT {
                let mut lease = std::pin::pin!(self.lease());
                // The deliveries must go on meanwhile: on SQLite one of them may hold the writer that the lease
                // waits for.
                let leased = loop {
                    tokio::select! {
                        leased = &mut lease => break leased,
                        Some(landed) = flying.next(), if !flying.is_empty() => land(&mut ids, landed),
                    }
                };
                let mut rows = leased.unwrap_or_else(|error| {
                    tracing::warn!(%error, "outbox could not be read");
                    Vec::new()
                });
                more = rows.len() as u64 >= BATCH;
                rows.retain(|row| ids.insert(row.id));
                if !rows.is_empty() {
                    flying.push(self.deliver(rows));
                }
                continue;
            }
            tokio::select! {
                () = token.cancelled() => break,
                Some(landed) = flying.next(), if !flying.is_empty() => land(&mut ids, landed),
                () = self.work.committed() => more = true,
                () = tokio::time::sleep(IDLE) => more = true,
            }
        }
    }

    /// Gives back the rows that an earlier life of this process had taken.
    async fn release_all(&self) -> Result<(), Error> {
        let unit = self.work.begin().await?;
        row::Entity::update_many()
            .col_expr(row::Column::LeasedUntil, Expr::value(0_i64))
            .filter(row::Column::LeasedUntil.gt(0_i64))
            .exec(unit.tx())
            .await?;
        unit.commit().await
    }

    /// Takes up to [`BATCH`] rows that nobody holds, oldest first.
    async fn lease(&self) -> Result<Vec<Row>, Error> {
        let now = self.work.now();
        let mut free = Query::select();
        free.column(row::Column::Id)
            .from(row::Entity)
            .and_where(Expr::col(row::Column::LeasedUntil).lte(time::to_micros(now)))
            .order_by(row::Column::Id, Order::Asc)
            .limit(BATCH);
        if self.alone {
            // A look costs no write lock, and nobody else can take what it shows.
            if self.work.db().reader().query_one(&free).await?.is_none() {
                return Ok(Vec::new());
            }
        } else {
            free.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        }
        let mut take = Query::update();
        take.table(row::Entity)
            .value(row::Column::LeasedUntil, time::to_micros(now + LEASE))
            .and_where(Expr::col(row::Column::Id).in_subquery(free))
            .returning_all();
        let unit = self.work.begin().await?;
        let rows = unit
            .tx()
            .query_all(&take)
            .await?
            .iter()
            .map(|result| Row::from_query_result(result, ""))
            .collect::<Result<Vec<_>, _>>()?;
        unit.commit().await?;
        Ok(rows)
    }

    /// Publishes a batch; deletes what the bus confirmed and puts the rest off. Gives the ids of the batch.
    async fn deliver(&self, rows: Vec<Row>) -> Vec<Uuid> {
        let attempts: HashMap<Uuid, i32> = rows.iter().map(|r| (r.id, r.attempts)).collect();
        let ids: Vec<Uuid> = rows.iter().map(|r| r.id).collect();
        let source = self.work.source();
        let envelopes = rows
            .into_iter()
            .map(|row| row.into_envelope(source))
            .collect();
        let outcomes = self.bus.publish(envelopes).await;
        let (mut sent, mut unsent) = (Vec::new(), Vec::new());
        for (id, outcome) in ids.iter().zip(outcomes) {
            match outcome {
                Ok(()) => sent.push(*id),
                Err(error) => unsent.push((*id, error)),
            }
        }
        if let Err(error) = self.settle(sent, unsent, &attempts).await {
            // The rows come back when their lease ends; consumers know them by their ids.
            tracing::warn!(%error, "published events could not be removed from the outbox");
        }
        ids
    }

    async fn settle(
        &self,
        sent: Vec<Uuid>,
        unsent: Vec<(Uuid, PublishError)>,
        attempts: &HashMap<Uuid, i32>,
    ) -> Result<(), Error> {
        let unit = self.work.begin().await?;
        if !sent.is_empty() {
            row::Entity::delete_many()
                .filter(row::Column::Id.is_in(sent))
                .exec(unit.tx())
                .await?;
        }
        for (id, error) in unsent {
            let tried = attempts.get(&id).copied().unwrap_or(0).saturating_add(1);
            tracing::warn!(event.id = %id, event.attempts = tried, %error, "the bus did not take an event");
            row::Entity::update_many()
                .col_expr(
                    row::Column::LeasedUntil,
                    Expr::value(time::to_micros(unit.now() + pause(tried))),
                )
                .col_expr(row::Column::Attempts, Expr::value(tried))
                .filter(row::Column::Id.eq(id))
                .exec(unit.tx())
                .await?;
        }
        unit.commit().await
    }
}

fn land(under_way: &mut HashSet<Uuid>, landed: Vec<Uuid>) {
    for id in landed {
        under_way.remove(&id);
    }
}

fn pause(attempts: i32) -> Duration {
    let doublings = attempts.saturating_sub(1).clamp(0, 16).unsigned_abs();
    FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE)
}

impl Row {
    fn into_envelope(self, source: &str) -> Envelope {
        let at: Timestamp = time::from_micros(self.at);
        Envelope {
            id: self.id.to_string(),
            r#type: self.r#type,
            source: source.to_owned(),
            subject: self.subject,
            time: Some(time::to_proto(at)),
            traceparent: self.traceparent,
            data: self.data,
        }
    }
}

mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub r#type: String,
        pub subject: String,
        pub at: i64,
        pub traceparent: String,
        pub data: Vec<u8>,
        pub leased_until: i64,
        pub attempts: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert_eq!(pause(1), FIRST_PAUSE);
        assert_eq!(pause(2), FIRST_PAUSE * 2);
        assert_eq!(pause(i32::MAX), LONGEST_PAUSE);
    }
}
