//! Consumers: events become state, each one once.
//!
//! A batch of events is one transaction: their ids go into the inbox, their work beside them. An event whose id is there
//! already was done before. When one of a batch fails, the batch is rolled back and halved until the culprit stands alone.

mod dead_letters;
mod rows;

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use tracing::Instrument;
use uuid::Uuid;

pub use dead_letters::dead_letters;
pub(crate) use rows::{dead_letter, inbox};

use crate::event_bus::{Envelope, HandleError, Handler};
use crate::work::{UnitOfWork, Work};
use crate::{Error, Kind, telemetry, time};

/// Most events in one transaction.
pub const MAX_BATCH: usize = 256;
/// How long the inbox remembers an event. Longer than any queue or dead letter may live.
pub const INBOX_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often a batch is begun anew when the database answers and yet could not take it: another replica was quicker, or
/// stood in the way.
const ATTEMPTS: u32 = 3;
/// First pause while the database does not answer; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest pause while the database does not answer.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What became of one event of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Committed, now or before.
    Done,
    /// Refused by a rule, which is final.
    Refused,
    /// Put among the dead letters.
    Parked,
    /// To be delivered again after a pause, a bounded number of times; the reason is for the log and for a dead letter.
    Retry(String),
    /// No event is to blame, the consumer's own database does not answer: to be delivered again after the pause, however
    /// often that takes. Until then no other event has better luck.
    Wait(Duration),
}

impl Verdict {
    /// Whether the event is dealt with, durably.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Done | Self::Refused | Self::Parked)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Parked => "parked",
            Self::Retry(_) => "retry",
            Self::Wait(_) => "wait",
        }
    }
}

/// Why a batch was rolled back.
enum Failure {
    /// An event could not be taken.
    Event(HandleError),
    /// The transaction itself failed, whatever was in it.
    Unit(Error),
}

impl From<sea_orm::DbErr> for Failure {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Unit(error.into())
    }
}

impl Failure {
    /// The error of the database, where it is one that may pass and no event is to blame for.
    fn passing(&self) -> Option<&Error> {
        match self {
            Self::Unit(error) => (error.kind() == Kind::Unavailable).then_some(error),
            Self::Event(HandleError::Transient(error)) => {
                (error.reason() == "database_unavailable").then_some(error)
            }
            Self::Event(_) => None,
        }
    }
}

/// Takes events of some types into one service.
pub struct Consumer {
    name: &'static str,
    work: Work,
    handler: Arc<dyn Handler>,
    /// Times in a row that the database did not answer.
    waits: AtomicU32,
}

impl Consumer {
    /// A consumer that is known to the bus and to its inbox as `name`.
    pub fn new(name: &'static str, work: Work, handler: Arc<dyn Handler>) -> Arc<Self> {
        Arc::new(Self {
            name,
            work,
            handler,
            waits: AtomicU32::new(0),
        })
    }

    /// Name of its queue.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Full names of the messages that it takes.
    pub fn types(&self) -> &'static [&'static str] {
        self.handler.types()
    }

    /// Works events into the service's state. The verdicts stand in the order of `events`; whatever is settled is durable.
    pub async fn deliver(&self, events: &[Envelope]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(events.len());
        for batch in events.chunks(MAX_BATCH) {
            let begun = Instant::now();
            verdicts.extend(self.deliver_batch(batch).await);
            metrics::histogram!("messaging_process_duration_seconds", "queue" => self.name)
                .record(begun.elapsed());
        }
        for verdict in &verdicts {
            metrics::counter!(
                "messaging_processed_total", "queue" => self.name, "outcome" => verdict.name()
            )
            .increment(1);
            if let Verdict::Retry(_) = verdict {
                metrics::counter!("messaging_retried_total", "queue" => self.name).increment(1);
            }
        }
        verdicts
    }

    /// Whether the database answers, so that there is a point in delivering events.
    pub async fn is_ready(&self) -> bool {
        // Dropped, it rolls back.
        self.work.begin().await.is_ok()
    }

    /// The current instant, by the clock of its service.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.work.now()
    }

    /// How often in a row the database did not answer.
    pub fn waits(&self) -> u32 {
        self.waits.load(Ordering::Relaxed)
    }

    fn deliver_batch<'a>(&'a self, events: &'a [Envelope]) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let mut attempts = 1;
            let error = loop {
                let failure = match self.attempt(events).await {
                    Ok(()) => {
                        self.waits.store(0, Ordering::Relaxed);
                        return vec![Verdict::Done; events.len()];
                    }
                    Err(failure) => failure,
                };
                if let Some(error) = failure.passing() {
                    if !self.is_ready().await {
                        tracing::warn!(consumer = self.name, events = events.len(), %error, "the database does not answer");
                        return vec![self.wait(); events.len()];
                    }
                    if attempts < ATTEMPTS {
                        attempts += 1;
                        continue;
                    }
                }
                break match failure {
                    Failure::Unit(error) => HandleError::Transient(error),
                    Failure::Event(error) => error,
                };
            };
            if let [event] = events {
                return vec![self.judge(event, error).await];
            }
            let (left, right) = events.split_at(events.len() / 2);
            let mut verdicts = self.deliver_batch(left).await;
            match verdicts.last() {
                // It would not answer for the other half either.
                Some(Verdict::Wait(pause)) => {
                    let wait = Verdict::Wait(*pause);
                    verdicts.resize(events.len(), wait);
                }
                _ => verdicts.extend(self.deliver_batch(right).await),
            }
            verdicts
        })
    }

    /// The pause that grows while the database does not answer.
    fn wait(&self) -> Verdict {
        let waits = self.waits.fetch_add(1, Ordering::Relaxed);
        let pause = FIRST_WAIT
            .saturating_mul(1 << waits.min(16))
            .min(LONGEST_WAIT);
        Verdict::Wait(pause.mul_f64(rand::random_range(0.75..1.25)))
    }

    /// All events in one transaction, or none.
    async fn attempt(&self, events: &[Envelope]) -> Result<(), Failure> {
        let mut unit = self.work.begin().await.map_err(Failure::Unit)?;
        let mut fresh = self.remember(&unit, events).await?;
        let any = !fresh.is_empty();
        if any {
            self.guarded(self.handler.prepare(&mut unit, events))
                .await?;
        }
        for event in events {
            // Taken out, because an event may stand twice in one batch.
            if !fresh.remove(&event_id(event).map_err(Failure::Event)?) {
                continue;
            }
            let span = tracing::info_span!(
                "consume",
                otel.name = %format!("{} {}", self.name, event.r#type),
                otel.kind = "consumer",
                event.id = %event.id,
                event.r#type = %event.r#type,
            );
            telemetry::set_parent(&span, &event.traceparent);
            self.guarded(self.handler.handle(&mut unit, event))
                .instrument(span)
                .await?;
        }
        if any {
            self.guarded(self.handler.finish(&mut unit)).await?;
        }
        unit.commit().await.map_err(Failure::Unit)
    }

    /// A handler that panics has met an event that it cannot understand; the consumer lives on.
    async fn guarded(
        &self,
        work: impl Future<Output = Result<(), HandleError>>,
    ) -> Result<(), Failure> {
        let outcome = AssertUnwindSafe(work)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                let text = crate::shutdown::panic_text(&*panic).to_owned();
                Err(HandleError::Poison(format!("the handler panicked: {text}")))
            });
        outcome.map_err(Failure::Event)
    }

    /// Puts the ids into the inbox and tells which were not there.
    async fn remember(
        &self,
        unit: &UnitOfWork,
        events: &[Envelope],
    ) -> Result<HashSet<Uuid>, Failure> {
        let ids = events.iter().map(event_id).collect::<Result<Vec<_>, _>>();
        let mut ids = ids.map_err(Failure::Event)?;
        ids.sort_unstable();
        ids.dedup();
        let known: HashSet<Uuid> = inbox::Entity::find()
            .filter(inbox::Column::Consumer.eq(self.name))
            .filter(inbox::Column::EventId.is_in(ids.iter().copied()))
            .select_only()
            .column(inbox::Column::EventId)
            .into_tuple::<Uuid>()
            .all(unit.tx())
            .await?
            .into_iter()
            .collect();
        let fresh: HashSet<Uuid> = ids
            .iter()
            .copied()
            .filter(|id| !known.contains(id))
            .collect();
        if fresh.is_empty() {
            return Ok(fresh);
        }
        let rows = ids
            .into_iter()
            .filter(|id| fresh.contains(id))
            .map(|id| inbox::ActiveModel {
                consumer: Set(self.name.to_owned()),
                event_id: Set(id),
                at: Set(time::to_micros(unit.now())),
            });
        let written = inbox::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::columns([inbox::Column::Consumer, inbox::Column::EventId])
                    .do_nothing()
                    .to_owned(),
            )
            .exec_without_returning(unit.tx())
            .await?;
        if usize::try_from(written).ok() == Some(fresh.len()) {
            return Ok(fresh);
        }
        // Another replica committed one of them after our look: look again.
        Err(Failure::Unit(Error::unavailable(
            "delivered_elsewhere",
            "another replica took an event of the batch",
        )))
    }

    /// Decides about an event that failed alone.
    async fn judge(&self, event: &Envelope, error: HandleError) -> Verdict {
        let (outcome, verdict) = match &error {
            HandleError::Transient(reason) => {
                tracing::debug!(
                    consumer = self.name, event.id = %event.id, event.r#type = %event.r#type,
                    error = %reason, "event put off"
                );
                return Verdict::Retry(error.to_string());
            }
            HandleError::Refused(reason) => {
                tracing::warn!(
                    consumer = self.name, event.id = %event.id, event.r#type = %event.r#type,
                    reason, "event refused"
                );
                (self.skip(event).await, Verdict::Refused)
            }
            HandleError::Poison(reason) => (self.park(event, reason).await, Verdict::Parked),
        };
        match outcome {
            Ok(()) => verdict,
            Err(error) if error.kind() == Kind::Unavailable && !self.is_ready().await => {
                self.wait()
            }
            Err(error) => Verdict::Retry(error.to_string()),
        }
    }

    /// Remembers an event without doing anything about it.
    async fn skip(&self, event: &Envelope) -> Result<(), Error> {
        let unit = self.work.begin().await?;
        match self.remember(&unit, std::slice::from_ref(event)).await {
            Ok(_) => unit.commit().await,
            Err(Failure::Unit(error)) => Err(error),
            Err(Failure::Event(error)) => {
                Err(Error::unavailable("not_remembered", error.to_string()))
            }
        }
    }
}

fn event_id(event: &Envelope) -> Result<Uuid, HandleError> {
    Uuid::try_parse(&event.id)
        .map_err(|_| HandleError::Poison(format!("{:?} is not an event id", event.id)))
}

#[cfg(feature = "test-kit")]
impl Consumer {
    /// Which of the events are done: remembered, or put among the dead letters.
    pub(crate) async fn settled(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, Error> {
        let known = inbox::Entity::find()
            .filter(inbox::Column::Consumer.eq(self.name))
            .filter(inbox::Column::EventId.is_in(ids.iter().copied()))
            .select_only()
            .column(inbox::Column::EventId)
            .into_tuple::<Uuid>()
            .all(self.work.db().reader());
        let dead = dead_letter::Entity::find()
            .filter(dead_letter::Column::Consumer.eq(self.name))
            .filter(dead_letter::Column::EventId.is_in(ids.iter().copied()))
            .select_only()
            .column(dead_letter::Column::EventId)
            .into_tuple::<Uuid>()
            .all(self.work.db().reader());
        let (known, dead) = futures::try_join!(known, dead)?;
        Ok(known.into_iter().chain(dead).collect())
    }
}
