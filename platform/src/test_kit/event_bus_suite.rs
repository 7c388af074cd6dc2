//! What every event bus promises, as tests that each adapter passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proto::identity::v1::{EmailVerified, SessionRevoked};

use super::scene::{Recorder, Scene};
use super::servers::MAX_DELIVERIES;
use super::{DEADLINE, TestBus, assert_clean, envelope, eventually};
use crate::Error;
use crate::consumer::Consumer;
use crate::database::{Database, DatabaseConfig};
use crate::event_bus::{Envelope, HandleError};
use crate::outbox::Relay;
use crate::work::Work;

/// Runs every test of the suite, each on a bus of its own.
///
/// # Panics
/// When the bus breaks a promise.
pub async fn run(bus: impl Fn() -> TestBus) {
    every_subscriber_of_a_type_gets_it_once(bus()).await;
    an_event_published_twice_is_done_once(bus()).await;
    an_event_that_stands_twice_in_one_batch_is_done_once(bus()).await;
    a_handler_that_panics_loses_one_event_and_lives_on(bus()).await;
    what_fails_for_a_while_is_retried(bus()).await;
    what_always_fails_becomes_a_dead_letter_and_can_be_redriven(bus()).await;
    redrives_that_run_at_once_do_each_letter_once(bus()).await;
    poison_does_not_hold_up_its_neighbours(bus()).await;
    a_refusal_is_final_and_leaves_no_trace(bus()).await;
    a_crash_between_work_and_ack_brings_the_event_again_but_does_it_once(bus()).await;
    events_leave_the_outbox_only_once_confirmed(bus()).await;
    ten_relays_on_one_outbox_lose_and_double_nothing(bus()).await;
    what_never_succeeds_becomes_a_dead_letter_after_a_number_of_deliveries(bus()).await;
    a_database_that_is_away_makes_no_dead_letters(bus()).await;
}

/// Runs the suite on the broker that the environment names, and what holds for a broker alone. Without one it does
/// nothing.
///
/// # Panics
/// When the bus breaks a promise.
pub async fn run_on_rabbitmq() {
    if TestBus::rabbitmq().is_none() {
        return;
    }
    run(|| TestBus::rabbitmq().expect("it was there before")).await;
    super::broker_suite::run().await;
    super::broker_versions_suite::run().await;
}

async fn every_subscriber_of_a_type_gets_it_once(bus: TestBus) {
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

async fn an_event_published_twice_is_done_once(bus: TestBus) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    scene.subscribe("suite-twice", &recorder).await;
    let (event, last) = (scene.event(1), scene.event(2));
    scene.publish(&event).await;
    scene.publish(&event).await;
    scene.publish(&last).await;
    eventually(DEADLINE, || async { recorder.total() >= 2 }).await;
    assert_eq!(recorder.committed(&event), 1);
}

async fn an_event_that_stands_twice_in_one_batch_is_done_once(bus: TestBus) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    scene.subscribe("suite-copies", &recorder).await;
    let (event, last) = (scene.event(1), scene.event(2));
    let copies = vec![event.clone(), event.clone(), last.clone(), event.clone()];
    scene.publish_all(&copies).await;
    eventually(DEADLINE, || async { recorder.total() >= 2 }).await;
    assert_eq!(
        (recorder.committed(&event), recorder.committed(&last)),
        (1, 1)
    );
}

async fn a_handler_that_panics_loses_one_event_and_lives_on(bus: TestBus) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, event| {
        assert_ne!(event.subject, "1", "on purpose");
        Ok(())
    });
    scene.subscribe("suite-panic", &recorder).await;
    let (bad, good) = (scene.event(1), scene.event(2));
    scene.publish_all(&[bad.clone(), good.clone()]).await;
    eventually(DEADLINE, || async { recorder.committed(&good) == 1 }).await;
    eventually(DEADLINE, || async { scene.dead_letters().await == 1 }).await;
    assert_eq!(recorder.committed(&bad), 0);
}

async fn what_fails_for_a_while_is_retried(bus: TestBus) {
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

async fn what_always_fails_becomes_a_dead_letter_and_can_be_redriven(bus: TestBus) {
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
    eventually(DEADLINE, || async { scene.dead_letters().await == 1 }).await;
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

async fn redrives_that_run_at_once_do_each_letter_once(bus: TestBus) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    let consumer = scene.subscribe("suite-redrives", &recorder).await;
    for version in 0..40 {
        let letter = scene.event(version);
        consumer.park(&letter, "a test").await.expect("parked");
    }
    let redrives = (0..4).map(|_| consumer.redrive());
    let done = futures::future::join_all(redrives).await;
    let done: u64 = done.into_iter().map(|done| done.expect("redriven")).sum();
    assert_eq!((done, recorder.total()), (40, 40));
    assert_clean(&scene.db).await;
}

async fn poison_does_not_hold_up_its_neighbours(bus: TestBus) {
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
    scene.publish_all(&events).await;
    eventually(DEADLINE, || async { recorder.total() == 49 }).await;
    assert!(events.iter().all(|event| recorder.committed(event) <= 1));
    eventually(DEADLINE, || async { scene.dead_letters().await == 1 }).await;
}

async fn a_refusal_is_final_and_leaves_no_trace(bus: TestBus) {
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
async fn a_crash_between_work_and_ack_brings_the_event_again_but_does_it_once(bus: TestBus) {
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

async fn events_leave_the_outbox_only_once_confirmed(bus: TestBus) {
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

async fn ten_relays_on_one_outbox_lose_and_double_nothing(bus: TestBus) {
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
    let counts = recorder.counts();
    assert!(
        counts.values().all(|count| *count == 1),
        "an event was done twice"
    );
}

async fn what_never_succeeds_becomes_a_dead_letter_after_a_number_of_deliveries(bus: TestBus) {
    let scene = Scene::new(bus).await;
    let recorder = Recorder::new(|_, event| match event.subject.as_str() {
        "1" => Err(Error::not_found("subject").into()),
        _ => Ok(()),
    });
    scene.subscribe("suite-never", &recorder).await;
    let (never, good) = (scene.event(1), scene.event(2));
    scene.publish_all(&[never.clone(), good.clone()]).await;
    eventually(DEADLINE, || async { scene.dead_letters().await == 1 }).await;
    assert_eq!(
        (recorder.committed(&never), recorder.committed(&good)),
        (0, 1)
    );
    let tried = recorder.calls.load(Ordering::SeqCst);
    let least = MAX_DELIVERIES as usize;
    assert!(tried > least, "given up after {tried} calls");
}

async fn a_database_that_is_away_makes_no_dead_letters(bus: TestBus) {
    let scene = Scene::new(bus).await;
    let narrow = DatabaseConfig {
        max_connections: 1,
        acquire_timeout_ms: 100,
        ..scene.platform.database_config("suite")
    };
    let narrow = Database::connect(&narrow).await.expect("connected");
    let work = Work::new("suite", narrow, scene.platform.clock());
    let recorder = Recorder::new(|_, _| Ok(()));
    let consumer = Consumer::new("suite-away", work.clone(), recorder.clone());
    let first = scene.event(1);
    let subscribed = scene.bus.subscribe(consumer.clone(), &scene.tasks);
    subscribed.await.expect("a subscription");
    scene.publish(&first).await;
    eventually(DEADLINE, || async { recorder.committed(&first) == 1 }).await;
    // The only connection is taken, and nobody else gets one.
    let all = work.begin().await.expect("begun");
    let (bus, later) = (scene.bus.clone(), scene.event(2));
    let publishing = tokio_util::task::AbortOnDropHandle::new(scene.tasks.spawn("publishing", {
        let later = later.clone();
        async move {
            for outcome in bus.publish(vec![later]).await {
                outcome.expect("confirmed");
            }
        }
    }));
    eventually(DEADLINE, || async { consumer.waits() > MAX_DELIVERIES }).await;
    drop(all);
    eventually(DEADLINE, || async { recorder.committed(&later) == 1 }).await;
    publishing.await.expect("published");
    assert_eq!(consumer.waits(), 0);
    assert_eq!(recorder.calls.load(Ordering::SeqCst), 2);
    assert_clean(&scene.db).await;
}
