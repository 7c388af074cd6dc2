//! What the bus promises when the broker, the wire or a process fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::BasicProperties;
use proto::identity::v1::EmailVerified;
use proto::subscriptions::Subscription;
use tokio::sync::Semaphore;

use super::bus::until_confirmed;
use super::scene::{Recorder, Scene, Tables};
use super::servers::{Broker, TestBus};
use super::tcp_proxy::TcpProxy;
use super::{DEADLINE, assert_clean, eventually};
use crate::Tasks;
use crate::consumer::Consumer;
use crate::event_bus::{Envelope, HandleError, Handler, RabbitMqBus};
use crate::outbox::Relay;
use crate::work::{UnitOfWork, Work};

/// Longer than [`DEADLINE`]: reconnecting takes its time.
const SLOW: Duration = Duration::from_secs(60);

/// The consumers of the scenes that publish before anybody has subscribed.
const SUBSCRIPTIONS: &[Subscription] = &[
    Subscription {
        consumer: "suite-one",
        types: &["identity.v1.EmailVerified"],
    },
    Subscription {
        consumer: "suite-two",
        types: &["identity.v1.EmailVerified"],
    },
];

pub(super) async fn run() {
    a_broker_that_goes_away_and_comes_back_loses_and_doubles_nothing().await;
    a_service_starts_while_the_broker_is_away().await;
    a_broker_that_says_nothing_holds_up_nobody().await;
    a_broker_that_says_nothing_does_not_hold_up_the_end_of_the_process().await;
    what_a_blocked_broker_does_not_take_back_keeps_its_tries().await;
    a_consumer_that_dies_with_its_messages_leaves_them_to_another().await;
    a_message_that_kills_its_consumers_becomes_a_row().await;
    neighbours_of_a_message_that_kills_get_through().await;
    what_cannot_be_read_becomes_a_row().await;
    facts_wait_for_a_consumer_that_was_never_started().await;
    queues_that_somebody_removed_are_made_again().await;
    settings_of_queues_that_are_there_are_left_alone().await;
}

fn broker() -> Broker {
    Broker::of_environment().expect("a broker")
}

async fn behind_a_proxy(broker: &mut Broker) -> TcpProxy {
    let proxy = TcpProxy::start(broker.address(), &Tasks::new()).await;
    broker.go_over(proxy.address());
    proxy
}

fn quiet() -> Arc<Recorder> {
    Recorder::new(|_, _| Ok(()))
}

async fn emit(work: &Work, versions: std::ops::Range<i64>) {
    let mut unit = work.begin().await.expect("begun");
    for version in versions {
        let fact = EmailVerified {
            user_id: version.to_string(),
            version,
        };
        unit.emit(version, &fact);
    }
    unit.commit().await.expect("committed");
}

async fn a_broker_that_goes_away_and_comes_back_loses_and_doubles_nothing() {
    let mut broker = broker();
    let proxy = behind_a_proxy(&mut broker).await;
    let scene = Scene::new(broker.bus()).await;
    let recorder = quiet();
    scene.subscribe("suite-one", &recorder).await;
    let work = scene.work();
    Relay::new(work.clone(), scene.bus.clone()).run(&scene.tasks);
    for round in 0..6_usize {
        let from = i64::try_from(round).expect("small") * 500;
        emit(&work, from..from + 500).await;
        let before = recorder.total();
        // Somewhere in the middle of this round.
        eventually(SLOW, || async { recorder.total() > before }).await;
        proxy.cut();
        eventually(SLOW, || async { !scene.bus.is_available() }).await;
        proxy.restore();
    }
    eventually(SLOW, || async { recorder.total() == 3000 }).await;
    assert_clean(&scene.db).await;
    assert_each_once(&recorder, 3000);
}

fn assert_each_once(recorder: &Recorder, count: usize) {
    let committed = recorder.counts();
    assert_eq!(committed.len(), count);
    assert!(committed.values().all(|count| *count == 1));
}

async fn a_service_starts_while_the_broker_is_away() {
    let mut broker = broker();
    let proxy = behind_a_proxy(&mut broker).await;
    proxy.cut();
    let scene = Scene::new(broker.bus()).await;
    let recorder = quiet();
    scene.subscribe("suite-one", &recorder).await;
    let work = scene.work();
    Relay::new(work.clone(), scene.bus.clone()).run(&scene.tasks);
    emit(&work, 0..10).await;
    let rabbitmq = &scene.own.rabbitmq.as_ref().expect("RabbitMQ").bus;
    assert!(!rabbitmq.is_connected() && !scene.bus.is_available());
    proxy.restore();
    eventually(SLOW, || async { recorder.total() == 10 }).await;
    assert!(rabbitmq.is_connected() && scene.bus.is_available());
    assert_clean(&scene.db).await;
}

async fn a_broker_that_says_nothing_holds_up_nobody() {
    let mut broker = broker().with(|config| {
        config.publish_timeout_ms = 500;
        config.connect_timeout_ms = 500;
        config.heartbeat_s = 1;
    });
    let proxy = behind_a_proxy(&mut broker).await;
    let scene = Scene::new(broker.bus()).await;
    let recorder = quiet();
    scene.subscribe("suite-one", &recorder).await;
    let (before, during) = (scene.event(1), scene.event(2));
    eventually(SLOW, || async { is_confirmed(&scene, &before).await }).await;
    proxy.black_hole();
    let publishing = scene.bus.publish(vec![during.clone()]);
    let outcomes = tokio::time::timeout(DEADLINE, publishing).await;
    assert!(outcomes.expect("an answer in time")[0].is_err());
    // No sign of life ends the connections, and the handshakes of new ones end in time too.
    eventually(SLOW, || async { !scene.bus.is_available() }).await;
    proxy.cut();
    proxy.restore();
    eventually(SLOW, || async { is_confirmed(&scene, &during).await }).await;
    eventually(SLOW, || async { recorder.committed(&during) == 1 }).await;
    assert_each_once(&recorder, 2);
}

/// A handler that waits until the test lets it fail.
struct Failing {
    taken: Semaphore,
    go: Semaphore,
}

#[async_trait::async_trait]
impl Handler for Failing {
    fn types(&self) -> &'static [&'static str] {
        SUBSCRIPTIONS[0].types
    }

    async fn handle(&self, _: &mut UnitOfWork, _: &Envelope) -> Result<(), HandleError> {
        self.taken.add_permits(1);
        let _go = self.go.acquire().await.expect("never closed");
        Err(not_now())
    }
}

async fn a_broker_that_says_nothing_does_not_hold_up_the_end_of_the_process() {
    // Longer than the grace: nothing but the process itself ends the connections.
    let mut broker = broker().with(|config| config.heartbeat_s = 300);
    let proxy = behind_a_proxy(&mut broker).await;
    let scene = Scene::new(broker.bus_with(SUBSCRIPTIONS)).await;
    let failing = Arc::new(Failing {
        taken: Semaphore::new(0),
        go: Semaphore::new(0),
    });
    let consumer = Consumer::new("suite-one", scene.work(), failing.clone());
    let subscribed = scene.bus.subscribe(consumer, &scene.tasks);
    subscribed.await.expect("a subscription");
    scene.publish(&scene.event(1)).await;
    let taken = tokio::time::timeout(SLOW, failing.taken.acquire()).await;
    let _taken = taken.expect("taken in time").expect("never closed");
    // Now it can neither be put off nor given back.
    proxy.black_hole();
    failing.go.add_permits(1);
    let grace = Duration::from_millis(crate::process::ShutdownConfig::default().grace_ms);
    let own = scene.own.rabbitmq.as_ref().expect("RabbitMQ");
    let (consumers, connections) =
        tokio::join!(scene.tasks.shutdown(grace), own.tasks.shutdown(grace));
    assert_eq!((consumers, connections), (Vec::new(), Vec::new()));
}

fn not_now() -> HandleError {
    HandleError::Transient(crate::Error::not_found("the other"))
}

async fn what_a_blocked_broker_does_not_take_back_keeps_its_tries() {
    for (tries, fault) in [
        (1, RabbitMqBus::block as fn(&RabbitMqBus, bool)),
        (2, RabbitMqBus::leave_unconfirmed),
    ] {
        let broker = broker().with(|config| config.max_deliveries = tries);
        let scene = Scene::new(broker.bus_with(SUBSCRIPTIONS)).await;
        let bus = &scene.own.rabbitmq.as_ref().expect("RabbitMQ").bus;
        let event = scene.event(1);
        scene.publish(&event).await;
        fault(bus, true);
        // What it waits for comes after more tries than there are.
        let recorder = Recorder::new(|call, _| if call < 3 { Err(not_now()) } else { Ok(()) });
        scene.subscribe("suite-one", &recorder).await;
        eventually(SLOW, || async { recorder.committed(&event) == 1 }).await;
        assert_eq!(scene.dead_letters().await, 0);
        fault(bus, false);
    }
}

async fn is_confirmed(scene: &Scene, event: &Envelope) -> bool {
    scene.bus.publish(vec![event.clone()]).await[0].is_ok()
}

/// A handler that takes events and never comes back, until its process dies.
struct Stuck {
    taken: Semaphore,
}

#[async_trait::async_trait]
impl Handler for Stuck {
    fn types(&self) -> &'static [&'static str] {
        SUBSCRIPTIONS[0].types
    }

    async fn handle(
        &self,
        _: &mut UnitOfWork,
        _: &Envelope,
    ) -> Result<(), crate::event_bus::HandleError> {
        self.taken.add_permits(1);
        std::future::pending().await
    }
}

async fn a_consumer_that_dies_with_its_messages_leaves_them_to_another() {
    let broker = broker();
    let scene = Scene::new(broker.bus_with(SUBSCRIPTIONS)).await;
    let mut wire = broker.clone();
    let proxy = behind_a_proxy(&mut wire).await;
    let doomed = wire.bus();
    // What it had begun is lost with it, as in a database that rolls back.
    let other = scene.platform.database::<Tables>("doomed").await;
    let work = Work::new("suite", other, scene.platform.clock());
    let stuck = Arc::new(Stuck {
        taken: Semaphore::new(0),
    });
    let consumer = Consumer::new("suite-one", work, stuck.clone());
    let subscribed = doomed.bus.subscribe(consumer, &scene.tasks);
    subscribed.await.expect("a subscription");
    let events: Vec<_> = (0..1000).map(|version| scene.event(version)).collect();
    scene.publish_all(&events).await;
    let taken = tokio::time::timeout(SLOW, stuck.taken.acquire()).await;
    let _taken = taken.expect("taken in time").expect("never closed");
    let recorder = quiet();
    scene.subscribe("suite-one", &recorder).await;
    // All but what the doomed one holds.
    eventually(SLOW, || async { (400..1000).contains(&recorder.total()) }).await;
    proxy.cut();
    eventually(SLOW, || async { recorder.total() == 1000 }).await;
    assert_each_once(&recorder, 1000);
    assert_clean(&scene.db).await;
}

async fn a_message_that_kills_its_consumers_becomes_a_row() {
    let broker = broker().with(|config| config.delivery_limit = 5);
    let scene = Scene::new(broker.bus_with(SUBSCRIPTIONS)).await;
    let own = scene.own.rabbitmq.as_ref().expect("RabbitMQ");
    let event = scene.event(1);
    scene.publish(&event).await;
    let (door, queue) = (own.back_door(), own.bus.queue_of("suite-one"));
    let mut killed = 0;
    while door.take_and_die(&queue, 1).await.expect("taken") == 1 {
        killed += 1;
        assert!(killed < 20, "the broker never gives up");
    }
    assert!(killed >= 5, "given up after {killed}");
    let recorder = quiet();
    let consumer = scene.subscribe("suite-one", &recorder).await;
    eventually(SLOW, || async { scene.dead_letters().await == 1 }).await;
    assert_eq!(recorder.total(), 0);
    assert_eq!(consumer.redrive().await.expect("redriven"), 1);
    assert_eq!(recorder.committed(&event), 1);
    assert_clean(&scene.db).await;
}

async fn neighbours_of_a_message_that_kills_get_through() {
    let scene = Scene::new(broker().bus_with(SUBSCRIPTIONS)).await;
    let own = scene.own.rabbitmq.as_ref().expect("RabbitMQ");
    let events: Vec<_> = (0..20).map(|version| scene.event(version)).collect();
    scene.publish_all(&events).await;
    let (door, queue) = (own.back_door(), own.bus.queue_of("suite-one"));
    for _ in 0..4 {
        assert_eq!(door.take_and_die(&queue, 20).await.expect("taken"), 20);
    }
    let recorder = quiet();
    scene.subscribe("suite-one", &recorder).await;
    let fresh = scene.event(100);
    scene.publish(&fresh).await;
    eventually(SLOW, || async { recorder.total() == 21 }).await;
    assert_each_once(&recorder, 21);
    assert_clean(&scene.db).await;
}

async fn what_cannot_be_read_becomes_a_row() {
    let scene = Scene::new(broker().bus_with(SUBSCRIPTIONS)).await;
    let door = scene.own.rabbitmq.as_ref().expect("RabbitMQ").back_door();
    let key = SUBSCRIPTIONS[0].types[0];
    let strange = BasicProperties::default().with_message_id("\0 no id".into());
    for (properties, body) in [
        (BasicProperties::default(), b"\xff\0".as_slice()),
        (strange, b"".as_slice()),
    ] {
        door.publish(key, properties, body)
            .await
            .expect("published");
    }
    let recorder = quiet();
    scene.subscribe("suite-one", &recorder).await;
    let good = scene.event(1);
    scene.publish(&good).await;
    eventually(SLOW, || async { recorder.committed(&good) == 1 }).await;
    eventually(SLOW, || async { scene.dead_letters().await == 2 }).await;
    assert_eq!(recorder.calls.load(Ordering::SeqCst), 1);
}

async fn facts_wait_for_a_consumer_that_was_never_started() {
    let broker = broker();
    let scene = Scene::new(broker.bus_with(SUBSCRIPTIONS)).await;
    let one = quiet();
    scene.subscribe("suite-one", &one).await;
    emit(&scene.work(), 0..300).await;
    Relay::new(scene.work(), scene.bus.clone()).run(&scene.tasks);
    eventually(SLOW, || async { one.total() == 300 }).await;
    assert_clean(&scene.db).await;
    // Another process, for the first time.
    let later = broker.bus();
    let two = quiet();
    let consumer = Consumer::new("suite-two", scene.work(), two.clone());
    let subscribed = later.bus.subscribe(consumer, &scene.tasks);
    subscribed.await.expect("a subscription");
    eventually(SLOW, || async { two.total() == 300 }).await;
    assert_each_once(&two, 300);
}

async fn queues_that_somebody_removed_are_made_again() {
    let scene = Scene::new(broker().bus_with(SUBSCRIPTIONS)).await;
    let own = scene.own.rabbitmq.as_ref().expect("RabbitMQ");
    let door = own.back_door();
    let recorder = quiet();
    scene.subscribe("suite-one", &recorder).await;
    scene.publish(&scene.event(1)).await;
    eventually(SLOW, || async { recorder.total() == 1 }).await;
    // One of the two: its consumer makes it again.
    let queue = own.bus.queue_of("suite-one");
    door.remove_queue(&queue).await.expect("removed");
    eventually(SLOW, || async {
        scene.publish(&scene.event(2)).await;
        recorder.total() > 1
    })
    .await;
    // Both, and nobody takes from them: the publisher finds out.
    scene.tasks.token().cancel();
    eventually(SLOW, || async { scene.tasks.running().is_empty() }).await;
    for consumer in ["suite-one", "suite-two"] {
        let queue = own.bus.queue_of(consumer);
        door.remove_queue(&queue).await.expect("removed");
    }
    let event = scene.event(3);
    assert!(!is_confirmed(&scene, &event).await, "nobody has it");
    scene.publish(&event).await;
    let queue = own.bus.queue_of("suite-two");
    assert_eq!(door.take_and_die(&queue, 2).await.expect("taken"), 1);
}

async fn settings_of_queues_that_are_there_are_left_alone() {
    let broker = broker();
    let scene = Scene::new(broker.bus_with(SUBSCRIPTIONS)).await;
    scene.publish(&scene.event(1)).await;
    let other: TestBus = broker
        .with(|config| config.delivery_limit += 1)
        .bus_with(SUBSCRIPTIONS);
    let recorder = quiet();
    let consumer = Consumer::new("suite-one", scene.work(), recorder.clone());
    let subscribed = other.bus.subscribe(consumer, &scene.tasks);
    subscribed.await.expect("a subscription");
    let confirmed = until_confirmed(other.bus.as_ref(), &[scene.event(2)]).await;
    assert!(confirmed[0].is_ok(), "{confirmed:?}");
    eventually(SLOW, || async { recorder.total() == 2 }).await;
}
