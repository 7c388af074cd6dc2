//! The outbox: events are rows of the transaction that they tell of, and a relay carries them to the bus.

mod row;
mod statements;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use statements::{few_shapes, free_rows, lease_apart};

use crate::backlog;
use crate::event_bus::{Envelope, EventBus, PublishError};
use crate::shutdown::Tasks;
use crate::work::Work;
use crate::{Error, time};

pub(crate) use row::Model as Row;

/// Rows taken at a time.
const BATCH: u64 = 128;
/// Batches under way at a time.
const IN_FLIGHT: usize = 8;
/// How long a row is left to the relay that took it: longer than a publish may take, and short, because what a relay that
/// died had taken is late by as much.
pub(crate) const LEASE: Duration = Duration::from_secs(15);
/// How long the relay sleeps when nothing is told, more or less, so that replicas spread their looks.
const IDLE: Duration = Duration::from_millis(1500);
/// How often the relay asks whether a bus that is away is back.
const AWAY: Duration = Duration::from_millis(200);
/// How long deliveries under way may take to end when the process shuts down.
const LAST_DELIVERIES: Duration = Duration::from_secs(3);
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
/// one after 15 seconds; at its start a relay that is alone on its database takes them at once.
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
        let (token, source) = (tasks.token(), self.work.source());
        tasks.spawn(
            format!("{source}-outbox-gauge"),
            backlog::follow(
                "outbox_unsent",
                row::Entity,
                self.work.clone(),
                token.clone(),
            ),
        );
        tasks.spawn_critical(format!("{source}-relay"), async move {
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
            let away = !self.bus.is_available();
            if more && !away && flying.len() < IN_FLIGHT {
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
            let pause = if away && more { AWAY } else { idle() };
            tokio::select! {
                () = token.cancelled() => break,
                Some(landed) = flying.next(), if !flying.is_empty() => land(&mut ids, landed),
                () = self.work.committed() => more = true,
                () = tokio::time::sleep(pause) => more = true,
            }
        }
        // What was handed over is better settled now than sent again by the next one.
        let last = async { while flying.next().await.is_some() {} };
        let _cut_short = tokio::time::timeout(LAST_DELIVERIES, last).await;
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
        let free = free_rows(now);
        // A look costs no lock and no transaction, and mostly there is nothing.
        let mut one = free.clone();
        one.reset_limit().limit(1);
        if self.work.db().reader().query_one(&one).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut take = Query::update();
        take.table(row::Entity)
            .value(row::Column::LeasedUntil, time::to_micros(now + LEASE))
            .returning_all();
        let unit = self.work.begin().await?;
        let results = if self.alone {
            // Nobody else can take what the subquery shows.
            take.and_where(Expr::col(row::Column::Id).in_subquery(free));
            unit.tx().query_all(&take).await?
        } else {
            unit.tx().query_all(&lease_apart(take, free)).await?
        };
        let rows = results
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
        for (outcome, count) in [("confirmed", sent.len()), ("failed", unsent.len())] {
            metrics::counter!(
                "messaging_published_total", "service" => source, "outcome" => outcome
            )
            .increment(count as u64);
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
        let mut put_off: BTreeMap<i32, Vec<Uuid>> = BTreeMap::new();
        if let Some((id, error)) = unsent.first() {
            tracing::warn!(
                events = unsent.len(), event.id = %id, %error, "the bus did not take some events"
            );
        }
        for (id, error) in unsent {
            let tried = attempts.get(&id).copied().unwrap_or(0).saturating_add(1);
            tracing::debug!(event.id = %id, event.attempts = tried, %error, "event put off");
            put_off.entry(tried).or_default().push(id);
        }
        let unit = self.work.begin().await?;
        if !sent.is_empty() {
            row::Entity::delete_many()
                .filter(row::Column::Id.is_in(few_shapes(sent)))
                .exec(unit.tx())
                .await?;
        }
        for (tried, ids) in put_off {
            row::Entity::update_many()
                .col_expr(
                    row::Column::LeasedUntil,
                    Expr::value(time::to_micros(unit.now() + pause(tried))),
                )
                .col_expr(row::Column::Attempts, Expr::value(tried))
                .filter(row::Column::Id.is_in(few_shapes(ids)))
                .exec(unit.tx())
                .await?;
        }
        unit.commit().await
    }
}

fn idle() -> Duration {
    IDLE.mul_f64(rand::random_range(0.5..1.5))
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
