//! One transaction: the state that changes, the events that tell of it, and the answer that a retry gets.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prost::{Message, Name};
use sea_orm::DatabaseTransaction;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::database::Database;
pub use crate::idempotency::{Answer, RequestKey};
use crate::idempotency::{Place, UnderWay};
use crate::{Error, SharedClock, grpc, id, idempotency, outbox, telemetry};

/// Opens units of work on one database for one service. Cheap to clone.
#[derive(Clone)]
pub struct Work {
    source: &'static str,
    db: Database,
    clock: SharedClock,
    committed: Arc<Notify>,
    under_way: UnderWay,
}

/// What a request with an idempotency key meets.
#[expect(
    clippy::large_enum_variant,
    reason = "made once a request and taken apart at once"
)]
pub enum Begun {
    /// The key is new: do the work, store the answer, commit.
    Fresh(UnitOfWork),
    /// The work was done before; this was the answer.
    Replayed(Answer),
}

impl Work {
    /// For the service `source` on `db`.
    pub fn new(source: &'static str, db: Database, clock: SharedClock) -> Self {
        Self {
            source,
            db,
            clock,
            committed: Arc::new(Notify::new()),
            under_way: UnderWay::default(),
        }
    }

    /// The same on other connections to the same database, for work that is not to wait for the connections of others.
    #[must_use]
    pub fn on(&self, db: Database) -> Self {
        Self { db, ..self.clone() }
    }

    /// Name of the service, as it stands in the events that it emits.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// The database.
    pub fn db(&self) -> &Database {
        &self.db
    }

    /// The clock.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// The current instant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Begins a unit of work.
    ///
    /// # Errors
    /// `database_unavailable` when no connection becomes free in time.
    pub async fn begin(&self) -> Result<UnitOfWork, Error> {
        Ok(UnitOfWork {
            tx: self.db.begin().await?,
            now: self.now(),
            events: Vec::new(),
            hooks: Mutex::new(Vec::new()),
            gathered: Mutex::default(),
            key: None,
            work: self.clone(),
            _place: None,
        })
    }

    /// Begins a unit of work under an idempotency key, or gives the answer of the first time.
    ///
    /// A duplicate that arrives while the first is under way waits for it, until shortly before the deadline of the
    /// call that is being answered.
    ///
    /// # Errors
    /// `idempotency_key_reused` when the key came with another request before; `request_in_progress` when the deadline
    /// came before the first one's answer.
    pub async fn begin_once(&self, key: &RequestKey) -> Result<Begun, Error> {
        let deadline = grpc::current_deadline();
        let place = self.under_way.enter(key, deadline).await?;
        let mut unit = self.begin().await?;
        // Here PostgreSQL waits for a first one in another process.
        let keys = [key];
        let claims = idempotency::claim(&unit.tx, &keys, unit.now);
        let claims = idempotency::until(deadline, claims).await??;
        match claims.into_iter().next() {
            Some(idempotency::Claim::Replayed(answer)) => Ok(Begun::Replayed(answer)),
            Some(idempotency::Claim::Reused) => Err(idempotency::reused()),
            _ => {
                unit.key = Some((key.clone(), None));
                unit._place = Some(place);
                Ok(Begun::Fresh(unit))
            }
        }
    }

    /// Wakes up once somebody committed events.
    pub(crate) async fn committed(&self) {
        self.committed.notified().await;
    }
}

/// An open transaction with the events that it will tell. Dropped, it rolls back and tells nothing.
pub struct UnitOfWork {
    tx: DatabaseTransaction,
    now: Timestamp,
    events: Vec<outbox::Row>,
    hooks: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    gathered: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
    /// The key claimed, and its answer once stored.
    key: Option<(RequestKey, Option<Answer>)>,
    work: Work,
    /// Given up last, when the transaction has ended.
    _place: Option<Place>,
}

impl UnitOfWork {
    /// The transaction.
    pub fn tx(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// When it began: the one time of everything in it.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Tells a fact about `subject` when the transaction commits, in the trace of the current span. Returns the event's id.
    pub fn emit<E: Message + Name>(&mut self, subject: impl Display, event: &E) -> Uuid {
        self.emit_in_trace(telemetry::current_traceparent(), subject, event)
    }

    /// As [`UnitOfWork::emit`], in the given trace: for one transaction that serves many callers.
    pub fn emit_in_trace<E: Message + Name>(
        &mut self,
        traceparent: Option<String>,
        subject: impl Display,
        event: &E,
    ) -> Uuid {
        let id = id::new(self.now);
        self.events.push(outbox::Row {
            id,
            r#type: E::full_name(),
            subject: subject.to_string(),
            at: crate::time::to_micros(self.now),
            traceparent: traceparent.unwrap_or_default(),
            data: event.encode_to_vec(),
            leased_until: 0,
            attempts: 0,
        });
        id
    }

    /// What the work on this unit has gathered so far, one value of each type. Forgotten with the unit: who gathers
    /// something must write it before the commit.
    ///
    /// # Panics
    /// Never: a value is kept under its own type.
    pub fn gathered<T: Any + Default + Send>(&mut self) -> &mut T {
        let gathered = self.gathered.get_mut();
        gathered
            .unwrap_or_else(PoisonError::into_inner)
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::new(T::default()))
            .downcast_mut()
            .expect("a value is kept under its own type")
    }

    /// Runs `hook` after a successful commit. A crash in between loses it: good for pokes, not for facts.
    pub fn on_commit(&mut self, hook: impl FnOnce() + Send + 'static) {
        self.hooks
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(hook));
    }

    /// Stores the answer under the key of [`Work::begin_once`].
    ///
    /// # Errors
    /// As any query; `internal` when there is no key.
    pub async fn store_answer(&mut self, answer: &Answer) -> Result<(), Error> {
        let Some((key, stored)) = &mut self.key else {
            return Err(Error::internal(anyhow::anyhow!("an answer needs a key")));
        };
        idempotency::store(&self.tx, &[(key, answer)], self.now).await?;
        *stored = Some(answer.clone());
        Ok(())
    }

    /// Commits state, events and answer as one.
    ///
    /// # Errors
    /// As any statement. Under a key, an error other than `outcome_unknown` says that nothing was done: where the
    /// connection is lost here, the key is asked what became of it. `outcome_unknown` when the key does not tell
    /// before the deadline of the call that is being answered. Without a key a connection lost here leaves it open.
    pub async fn commit(self) -> Result<(), Error> {
        let key = match self.key {
            Some((key, None)) => {
                return Err(Error::internal(anyhow::anyhow!(
                    "no answer was stored for a key of {}",
                    key.scope()
                )));
            }
            Some((key, Some(answer))) => Some((key, answer)),
            None => None,
        };
        let told = !self.events.is_empty();
        outbox::insert(&self.tx, self.events).await?;
        match key {
            None => self.tx.commit().await?,
            Some((key, answer)) => commit_once(self.tx, &self.work, &key, &answer).await?,
        }
        if told {
            self.work.committed.notify_one();
        }
        for hook in self
            .hooks
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            hook();
        }
        Ok(())
    }
}

/// Commits work under a key. Where the answer of COMMIT is lost, the key tells what became of it.
async fn commit_once(
    tx: DatabaseTransaction,
    work: &Work,
    key: &RequestKey,
    answer: &Answer,
) -> Result<(), Error> {
    let deadline = grpc::current_deadline();
    let too_late = |_| idempotency::outcome_unknown();
    let Err(error) = idempotency::until(deadline, tx.commit())
        .await
        .map_err(too_late)?
    else {
        return Ok(());
    };
    tracing::warn!(service = work.source, %error, "the answer of a COMMIT was lost; its key is asked");
    match idempotency::until(deadline, found_under(work, key)).await {
        // Of two that did the work, which a retry elsewhere can make of one, only one answer stands.
        Ok(Ok(idempotency::Claim::Replayed(found))) if idempotency::are_alike(&found, answer) => {
            Ok(())
        }
        // The key could be claimed, so the transaction is over and was rolled back.
        Ok(Ok(idempotency::Claim::Fresh)) => Err(error.into()),
        _ => Err(idempotency::outcome_unknown()),
    }
}

/// What a key stands for. Waits for a transaction with it that has not ended, and leaves everything as it is.
async fn found_under(work: &Work, key: &RequestKey) -> Result<idempotency::Claim, Error> {
    let tx = work.db.begin().await?;
    let mut claims = idempotency::claim(&tx, &[key], work.now()).await?;
    tx.rollback().await?;
    claims
        .pop()
        .ok_or_else(|| Error::internal(anyhow::anyhow!("a key without a claim")))
}
