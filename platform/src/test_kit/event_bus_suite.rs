//! What every event bus promises, as tests that each adapter passes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proto::identity::v1::{EmailVerified, SessionRevoked};
use sea_orm_migration::prelude::*;

use super::{DEADLINE, TestPlatform, assert_clean, envelope, eventually};
use crate::consumer::{self, Consumer};
use crate::database::Database;
use crate::event_bus::{Envelope, EventBus, HandleError, Handler, decode};
use crate::outbox::Relay;
use crate::work::{UnitOfWork, Work};
use crate::{Error, Tasks};

struct Tables;

impl MigratorTrait for Tables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        crate::migrations()
    }
}

type Misbehaviour = dyn Fn(usize, &Envelope) -> Result<(), HandleError> + Send + Sync;

/// A handler that counts what it committed, and misbehaves as the test says.
struct Recorder {
    calls: AtomicUsize,
    committed: Arc<Mutex<HashMap<String, usize>>>,
    misbehave: Box<Misbehaviour>,
}

impl Recorder {
    fn new(
        misbehave: impl Fn(usize, &Envelope) -> Result<(), HandleError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            committed: Arc::default(),
            misbehave: Box::new(misbehave),
        })
    }

    fn committed(&self, event: &Envelope) -> usize {
        self.committed
            .lock()
            .expect("no panic")
            .get(&event.id)
            .copied()
            .unwrap_or(0)
    }

    fn total(&self) -> usize {
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

struct Scene {
    platform: TestPlatform,
    bus: Arc<dyn EventBus>,
    db: Database,
    tasks: Tasks,
}

impl Scene {
    async fn new(bus: Arc<dyn EventBus>) -> Self {
        let platform = TestPlatform::start().await;
        let db = platform.database::<Tables>("suite").await;
        Self {
            platform,
            bus,
            db,
            tasks: Tasks::new(),
        }
    }

    fn work(&self) -> Work {
        Work::new("suite", self.db.clone(), self.platform.clock())
    }

    async fn subscribe(&self, name: &'static str, recorder: &Arc<Recorder>) -> Arc<Consumer> {
        let consumer = Consumer::new(name, self.work(), recorder.clone());
        self.bus
            .subscribe(consumer.clone(), &self.tasks)
            .await
            .expect("a subscription");
        consumer
    }

    fn event(&self, version: i64) -> Envelope {
        let fact = EmailVerified {
            user_id: version.to_string(),
            version,
        };
        envelope(self.platform.clock().now(), version, &fact)
    }

    async fn publish(&self, event: &Envelope) {
        for outcome in self.bus.publish(vec![event.clone()]).await {
            outcome.expect("confirmed");
        }
    }
}

/// Runs every test of the suite, each on a bus of its own.
///
/// # Panics
/// When the bus breaks a promise.
pub async fn run(bus: impl Fn() -> Arc<dyn EventBus>) {
    every_subscriber_of_a_type_gets_it_once(bus()).await;
    an_event_published_twice_is_done_once(bus()).await;
    an_event_that_stands_twice_in_one_batch_is_done_once(bus()).await;
    a_handler_that_panics_loses_one_event_and_lives_on(bus()).await;
    what_fails_for_a_while_is_retried(bus()).await;
    what_always_fails_becomes_a_dead_letter_and_can_be_redriven(bus()).await;
    poison_does_not_hold_up_its_neighbours(bus()).await;
    a_refusal_is_final_and_leaves_no_trace(bus()).await;
    a_crash_between_work_and_ack_brings_the_event_again_but_does_it_once(bus()).await;
    events_leave_the_outbox_only_once_confirmed(bus()).await;
    ten_relays_on_one_outbox_lose_and_double_nothing(bus()).await;
}

async fn every_subscriber_of_a_type_gets_it_once(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let (one, two) = (Recorder::new(|_, _| Ok(())), Recorder::new(|_, _| Ok(())));
    scene.subscribe("suite-fan-one", &one).await;
    scene.subscribe("suite-fan-two", &two).await;
    let other = envelope(
        scene.platform.clock().now(),
        "x",
        &SessionRevoked::default(),
    );
    scene.publish(&other).await;
    let event = scene.event(1);
    scene.publish(&event).await;
    eventually(DEADLINE, || async {
        one.committed(&event) == 1 && two.committed(&event) == 1
    })
    .await;
    assert_eq!(
        (one.total(), two.total()),
        (1, 1),
        "an event of another type was delivered"
    );
}

async fn an_event_published_twice_is_done_once(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    scene.subscribe("suite-twice", &recorder).await;
    let (event, last) = (scene.event(1), scene.event(2));
    scene.publish(&event).await;
    scene.publish(&event).await;
    scene.publish(&last).await;
    eventually(DEADLINE, || async { recorder.committed(&last) == 1 }).await;
    assert_eq!(recorder.committed(&event), 1);
}

async fn an_event_that_stands_twice_in_one_batch_is_done_once(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    scene.subscribe("suite-copies", &recorder).await;
    let (event, last) = (scene.event(1), scene.event(2));
    let copies = vec![event.clone(), event.clone(), last.clone(), event.clone()];
    for outcome in scene.bus.publish(copies).await {
        outcome.expect("confirmed");
    }
    eventually(DEADLINE, || async { recorder.committed(&last) == 1 }).await;
    assert_eq!(recorder.committed(&event), 1);
}

async fn a_handler_that_panics_loses_one_event_and_lives_on(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, event| {
        assert_ne!(event.subject, "1", "on purpose");
        Ok(())
    });
    scene.subscribe("suite-panic", &recorder).await;
    let (bad, good) = (scene.event(1), scene.event(2));
    for outcome in scene.bus.publish(vec![bad.clone(), good.clone()]).await {
        outcome.expect("confirmed");
    }
    eventually(DEADLINE, || async { recorder.committed(&good) == 1 }).await;
    assert_eq!(recorder.committed(&bad), 0);
    let dead = consumer::dead_letters(scene.db.reader())
        .await
        .expect("readable");
    assert_eq!(dead, 1);
}

async fn what_fails_for_a_while_is_retried(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|call, _| match call {
        0..3 => Err(Error::unavailable("test", "not yet").into()),
        _ => Ok(()),
    });
    scene.subscribe("suite-retry", &recorder).await;
    let event = scene.event(1);
    scene.publish(&event).await;
    eventually(DEADLINE, || async { recorder.committed(&event) == 1 }).await;
    assert_clean(&scene.db).await;
}

async fn what_always_fails_becomes_a_dead_letter_and_can_be_redriven(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let broken = Arc::new(AtomicUsize::new(1));
    let state = broken.clone();
    let recorder = Recorder::new(move |_, _| match state.load(Ordering::SeqCst) {
        0 => Ok(()),
        _ => Err(HandleError::Poison("always".to_owned())),
    });
    let consumer = scene.subscribe("suite-dead", &recorder).await;
    let event = scene.event(1);
    scene.publish(&event).await;
    eventually(DEADLINE, || async {
        consumer::dead_letters(scene.db.reader())
            .await
            .expect("readable")
            == 1
    })
    .await;
    assert_eq!(
        consumer.redrive().await.expect("redriven"),
        0,
        "it is still broken"
    );
    assert_eq!(recorder.committed(&event), 0);
    broken.store(0, Ordering::SeqCst);
    assert_eq!(consumer.redrive().await.expect("redriven"), 1);
    assert_eq!(
        consumer.redrive().await.expect("redriven"),
        0,
        "there is nothing left"
    );
    assert_eq!(recorder.committed(&event), 1);
    assert_clean(&scene.db).await;
}

async fn poison_does_not_hold_up_its_neighbours(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let events: Vec<Envelope> = (0..50).map(|n| scene.event(n)).collect();
    let culprit = events[23].id.clone();
    let recorder = Recorder::new(move |_, event| {
        if event.id == culprit {
            return Err(HandleError::Poison("the culprit".to_owned()));
        }
        Ok(())
    });
    scene.subscribe("suite-poison", &recorder).await;
    for outcome in scene.bus.publish(events.clone()).await {
        outcome.expect("confirmed");
    }
    eventually(DEADLINE, || async { recorder.total() == 49 }).await;
    assert!(events.iter().all(|event| recorder.committed(event) <= 1));
    eventually(DEADLINE, || async {
        consumer::dead_letters(scene.db.reader())
            .await
            .expect("readable")
            == 1
    })
    .await;
}

async fn a_refusal_is_final_and_leaves_no_trace(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, event| match event.subject.as_str() {
        "1" => Err(HandleError::Refused("by a rule".to_owned())),
        _ => Ok(()),
    });
    scene.subscribe("suite-refuse", &recorder).await;
    let (refused, last) = (scene.event(1), scene.event(2));
    scene.publish(&refused).await;
    scene.publish(&last).await;
    eventually(DEADLINE, || async { recorder.committed(&last) == 1 }).await;
    assert_eq!(recorder.committed(&refused), 0);
    assert_clean(&scene.db).await;
}

/// The consumer commits, and dies before the bus hears of it: the same consumer, started anew, gets the event again.
async fn a_crash_between_work_and_ack_brings_the_event_again_but_does_it_once(
    bus: Arc<dyn EventBus>,
) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    let consumer = Consumer::new("suite-crash", scene.work(), recorder.clone());
    let event = scene.event(1);
    // The work of a process that died before its acknowledgement.
    consumer.deliver(std::slice::from_ref(&event)).await;
    assert_eq!(recorder.committed(&event), 1);
    scene
        .bus
        .subscribe(consumer, &scene.tasks)
        .await
        .expect("a subscription");
    let last = scene.event(2);
    scene.publish(&event).await;
    scene.publish(&last).await;
    eventually(DEADLINE, || async { recorder.committed(&last) == 1 }).await;
    assert_eq!(recorder.committed(&event), 1);
}

async fn events_leave_the_outbox_only_once_confirmed(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    scene.subscribe("suite-relay", &recorder).await;
    let work = scene.work();
    let abandoned = work.begin().await.expect("begun");
    drop(abandoned);
    let mut unit = work.begin().await.expect("begun");
    for version in 0..300 {
        unit.emit(
            version,
            &EmailVerified {
                user_id: version.to_string(),
                version,
            },
        );
    }
    unit.commit().await.expect("committed");
    assert_eq!(
        crate::outbox::unsent(scene.db.reader())
            .await
            .expect("readable"),
        300
    );
    Relay::new(work, scene.bus.clone()).run(&scene.tasks);
    assert_clean(&scene.db).await;
    eventually(DEADLINE, || async { recorder.total() == 300 }).await;
}

async fn ten_relays_on_one_outbox_lose_and_double_nothing(bus: Arc<dyn EventBus>) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    scene.subscribe("suite-relays", &recorder).await;
    let work = scene.work();
    for _ in 0..10 {
        Relay::new(work.clone(), scene.bus.clone()).run(&scene.tasks);
    }
    for round in 0..20_i64 {
        let mut unit = work.begin().await.expect("begun");
        for n in 0..25 {
            let version = round * 25 + n;
            unit.emit(
                version,
                &EmailVerified {
                    user_id: version.to_string(),
                    version,
                },
            );
        }
        unit.commit().await.expect("committed");
    }
    assert_clean(&scene.db).await;
    eventually(DEADLINE, || async { recorder.total() == 500 }).await;
    let counts = recorder.committed.lock().expect("no panic").clone();
    assert!(
        counts.values().all(|count| *count == 1),
        "an event was done twice"
    );
}
