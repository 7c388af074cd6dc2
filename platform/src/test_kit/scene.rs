//! What the scenes of the bus's suites are made of.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proto::identity::v1::EmailVerified;
use sea_orm_migration::prelude::*;

use super::bus::until_confirmed;
use super::{TestBus, TestPlatform, envelope};
use crate::Tasks;
use crate::consumer::{self, Consumer};
use crate::database::Database;
use crate::event_bus::{Envelope, EventBus, HandleError, Handler, decode};
use crate::work::{UnitOfWork, Work};

pub(super) struct Tables;

impl MigratorTrait for Tables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        crate::migrations()
    }
}

pub(super) type Misbehaviour = dyn Fn(usize, &Envelope) -> Result<(), HandleError> + Send + Sync;

/// A handler that counts what it committed, and misbehaves as the test says.
pub(super) struct Recorder {
    pub(super) calls: AtomicUsize,
    committed: Arc<Mutex<HashMap<String, usize>>>,
    misbehave: Box<Misbehaviour>,
}

impl Recorder {
    pub(super) fn new(
        misbehave: impl Fn(usize, &Envelope) -> Result<(), HandleError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            committed: Arc::default(),
            misbehave: Box::new(misbehave),
        })
    }

    pub(super) fn committed(&self, event: &Envelope) -> usize {
        self.committed
            .lock()
            .expect("no panic")
            .get(&event.id)
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn counts(&self) -> HashMap<String, usize> {
        self.committed.lock().expect("no panic").clone()
    }

    pub(super) fn total(&self) -> usize {
        self.committed.lock().expect("no panic").values().sum()
    }
}

#[async_trait]
impl Handler for Recorder {
    fn types(&self) -> &'static [&'static str] {
        &["identity.v1.EmailVerified"]
    }

    async fn handle(&self, unit: &mut UnitOfWork, event: &Envelope) -> Result<(), HandleError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        (self.misbehave)(call, event)?;
        let _fact: EmailVerified = decode(event)?;
        let (committed, id) = (self.committed.clone(), event.id.clone());
        unit.on_commit(move || *committed.lock().expect("no panic").entry(id).or_default() += 1);
        Ok(())
    }
}

pub(super) struct Scene {
    pub(super) platform: TestPlatform,
    pub(super) own: TestBus,
    pub(super) bus: Arc<dyn EventBus>,
    pub(super) db: Database,
    pub(super) tasks: Tasks,
}

impl Scene {
    pub(super) async fn new(own: TestBus) -> Self {
        let platform = TestPlatform::start().await;
        let db = platform.database::<Tables>("suite").await;
        Self {
            platform,
            bus: own.bus.clone(),
            own,
            db,
            tasks: Tasks::new(),
        }
    }

    pub(super) async fn dead_letters(&self) -> u64 {
        consumer::dead_letters(self.db.reader())
            .await
            .expect("readable")
    }

    pub(super) fn work(&self) -> Work {
        Work::new("suite", self.db.clone(), self.platform.clock())
    }

    pub(super) async fn subscribe(
        &self,
        name: &'static str,
        recorder: &Arc<Recorder>,
    ) -> Arc<Consumer> {
        let consumer = Consumer::new(name, self.work(), recorder.clone());
        self.bus
            .subscribe(consumer.clone(), &self.tasks)
            .await
            .expect("a subscription");
        consumer
    }

    pub(super) fn event(&self, version: i64) -> Envelope {
        let fact = EmailVerified {
            user_id: version.to_string(),
            version,
        };
        envelope(self.platform.clock().now(), version, &fact)
    }

    pub(super) async fn publish(&self, event: &Envelope) {
        self.publish_all(std::slice::from_ref(event)).await;
    }

    /// Publishes in one call, and again what the bus did not take at once.
    pub(super) async fn publish_all(&self, events: &[Envelope]) {
        for outcome in until_confirmed(self.bus.as_ref(), events).await {
            outcome.expect("confirmed");
        }
    }
}
