//! Consumers: events become state, each one once.
//!
//! A batch of events is one transaction: their ids go into the inbox, their work beside them. An event whose id is there
//! already was done before. When one of a batch fails, the batch is rolled back and halved until the culprit stands alone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tracing::Instrument;
use uuid::Uuid;

use crate::event_bus::{Envelope, HandleError, Handler};
use crate::work::{UnitOfWork, Work};
use crate::{Error, Kind, telemetry, time};

/// Most events in one transaction.
pub const MAX_BATCH: usize = 256;
/// How long the inbox remembers an event. Longer than any queue or dead letter may live.
pub const INBOX_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// What became of one event of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Committed, known already, refused by a rule, or parked among the dead letters.
    Done,
    /// To be delivered again after a pause; the reason is for the log and for a dead letter.
    Retry(String),
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

/// Takes events of some types into one service.
pub struct Consumer {
    name: &'static str,
    work: Work,
    handler: Arc<dyn Handler>,
}

impl Consumer {
    /// A consumer that is known to the bus and to its inbox as `name`.
    pub fn new(name: &'static str, work: Work, handler: Arc<dyn Handler>) -> Arc<Self> {
        Arc::new(Self {
            name,
            work,
            handler,
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

    /// Works events into the service's state. The verdicts stand in the order of `events`; whatever is `Done` is durable.
    pub async fn deliver(&self, events: &[Envelope]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(events.len());
        for batch in events.chunks(MAX_BATCH) {
            verdicts.extend(self.deliver_batch(batch).await);
        }
        verdicts
    }

    fn deliver_batch<'a>(&'a self, events: &'a [Envelope]) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let error = match self.attempt(events).await {
                Ok(()) => return vec![Verdict::Done; events.len()],
                // No event is to blame, so there is no culprit to look for.
                Err(Failure::Unit(error)) if error.kind() == Kind::Unavailable => {
                    tracing::warn!(consumer = self.name, events = events.len(), %error, "events put off");
                    return vec![Verdict::Retry(error.to_string()); events.len()];
                }
                Err(Failure::Unit(error)) => HandleError::Transient(error),
                Err(Failure::Event(error)) => error,
            };
            if let [event] = events {
                return vec![self.judge(event, error).await];
            }
            let (left, right) = events.split_at(events.len() / 2);
            let mut verdicts = self.deliver_batch(left).await;
            verdicts.extend(self.deliver_batch(right).await);
            verdicts
        })
    }

    /// All events in one transaction, or none.
    async fn attempt(&self, events: &[Envelope]) -> Result<(), Failure> {
        let mut unit = self.work.begin().await.map_err(Failure::Unit)?;
        let mut fresh = self.remember(&unit, events).await?;
        if !fresh.is_empty() {
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
        let outcome = match &error {
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
                self.skip(event).await
            }
            HandleError::Poison(reason) => self.park(event, reason).await,
        };
        match outcome {
            Ok(()) => Verdict::Done,
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

    /// Puts an event among the dead letters.
    ///
    /// # Errors
    /// As any query.
    pub async fn park(&self, event: &Envelope, reason: &str) -> Result<(), Error> {
        let unit = self.work.begin().await?;
        let id = event_id(event).unwrap_or_else(|_| crate::id::new(unit.now()));
        dead_letter::Entity::insert(dead_letter::ActiveModel {
            consumer: Set(self.name.to_owned()),
            event_id: Set(id),
            r#type: Set(event.r#type.clone()),
            envelope: Set(event.encode_to_vec()),
            reason: Set(reason.chars().take(1000).collect()),
            at: Set(time::to_micros(unit.now())),
        })
        .on_conflict(
            OnConflict::columns([dead_letter::Column::Consumer, dead_letter::Column::EventId])
                .update_columns([dead_letter::Column::Reason, dead_letter::Column::At])
                .to_owned(),
        )
        .exec_without_returning(unit.tx())
        .await?;
        unit.commit().await?;
        tracing::error!(
            consumer = self.name, event.id = %event.id, event.r#type = %event.r#type, reason,
            "event put among the dead letters"
        );
        Ok(())
    }

    /// Delivers the dead letters once more, oldest first, and removes those that are done. Those older than
    /// [`INBOX_RETENTION`] stay: the inbox could not tell any more whether they were done. Returns how many were done.
    ///
    /// # Errors
    /// As any query.
    pub async fn redrive(&self) -> Result<u64, Error> {
        let (mut done, mut after) = (0, Uuid::nil());
        let oldest = time::to_micros(self.work.now() - INBOX_RETENTION);
        loop {
            let letters = dead_letter::Entity::find()
                .filter(dead_letter::Column::Consumer.eq(self.name))
                .filter(dead_letter::Column::EventId.gt(after))
                .order_by_asc(dead_letter::Column::EventId)
                .limit(MAX_BATCH as u64)
                .all(self.work.db().reader())
                .await?;
            let Some(last) = letters.last() else {
                return Ok(done);
            };
            after = last.event_id;
            for letter in letters.iter().filter(|letter| letter.at >= oldest) {
                let Ok(event) = Envelope::decode(letter.envelope.as_slice()) else {
                    continue;
                };
                let outcome = self.attempt(std::slice::from_ref(&event)).await;
                if let Err(Failure::Event(error)) = &outcome {
                    tracing::warn!(event.id = %event.id, event.r#type = %event.r#type, %error, "still a dead letter");
                }
                if let Err(Failure::Unit(error)) = outcome {
                    return Err(error);
                }
                if outcome.is_ok() {
                    let unit = self.work.begin().await?;
                    dead_letter::Entity::delete_by_id((self.name.to_owned(), letter.event_id))
                        .exec(unit.tx())
                        .await?;
                    unit.commit().await?;
                    done += 1;
                }
            }
        }
    }
}

/// Number of dead letters in a database.
///
/// # Errors
/// As any query.
pub async fn dead_letters(db: &impl sea_orm::ConnectionTrait) -> Result<u64, Error> {
    Ok(sea_orm::PaginatorTrait::count(dead_letter::Entity::find(), db).await?)
}

fn event_id(event: &Envelope) -> Result<Uuid, HandleError> {
    Uuid::try_parse(&event.id)
        .map_err(|_| HandleError::Poison(format!("{:?} is not an event id", event.id)))
}

pub(crate) mod inbox {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "inbox")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub consumer: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub event_id: Uuid,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) mod dead_letter {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "dead_letters")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub consumer: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub event_id: Uuid,
        pub r#type: String,
        pub envelope: Vec<u8>,
        pub reason: String,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
