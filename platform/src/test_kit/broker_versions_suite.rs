//! What the bus promises while processes of two versions run, on a real broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use proto::identity::v1::SessionRevoked;
use proto::subscriptions::{Retired, Subscription};
use sea_orm::EntityTrait;

use super::scene::{Recorder, Scene};
use super::servers::Broker;
use super::{assert_clean, envelope, eventually};
use crate::consumer::{Consumer, dead_letter};
use crate::event_bus::{Envelope, HandleError, Handler};
use crate::work::UnitOfWork;

/// Longer than reconnecting takes.
const SLOW: Duration = Duration::from_secs(60);

/// What the consumer takes in a version with fewer types, that of [`Recorder`].
const FEWER: &[Subscription] = &[Subscription {
    consumer: "suite-one",
    types: &["identity.v1.EmailVerified"],
}];
/// What it takes in the other.
const MORE: &[Subscription] = &[Subscription {
    consumer: "suite-one",
    types: &["identity.v1.EmailVerified", "identity.v1.SessionRevoked"],
}];
/// The difference.
const RETIRED: &[Retired] = &[Retired {
    consumer: "suite-one",
    r#type: "identity.v1.SessionRevoked",
}];

pub(super) async fn run() {
    what_only_the_next_version_takes_waits_for_it().await;
    what_no_version_takes_becomes_a_row().await;
    a_retired_type_comes_no_more().await;
}

fn broker() -> Broker {
    // A single failure that counted would make a dead letter.
    let broker = Broker::of_environment().expect("a broker");
    broker.with(|config| config.max_deliveries = 1)
}

fn revoked(scene: &Scene, hours_ago: i64) -> Envelope {
    let at = scene.platform.clock().now() - jiff::SignedDuration::from_hours(hours_ago);
    envelope(at, "x", &SessionRevoked::default())
}

/// The consumer in the version with more types.
#[derive(Default)]
struct Newer {
    taken: Arc<AtomicUsize>,
}

#[async_trait]
impl Handler for Newer {
    fn types(&self) -> &'static [&'static str] {
        MORE[0].types
    }

    async fn handle(&self, unit: &mut UnitOfWork, _: &Envelope) -> Result<(), HandleError> {
        let taken = Arc::clone(&self.taken);
        unit.on_commit(move || {
            taken.fetch_add(1, Ordering::SeqCst);
        });
        Ok(())
    }
}

async fn what_only_the_next_version_takes_waits_for_it() {
    let broker = broker();
    let scene = Scene::new(broker.bus_with(MORE)).await;
    let known = scene.event(1);
    scene.publish_all(&[revoked(&scene, 1)]).await;
    scene.publish(&known).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    scene.subscribe("suite-one", &recorder).await;
    // It came after the other.
    eventually(SLOW, || async { recorder.committed(&known) == 1 }).await;
    assert_eq!(scene.dead_letters().await, 0);
    scene.tasks.token().cancel();
    eventually(SLOW, || async { scene.tasks.running().is_empty() }).await;
    // The next version.
    let (next, newer) = (broker.bus(), Newer::default());
    let (taken, tasks) = (Arc::clone(&newer.taken), crate::Tasks::new());
    let consumer = Consumer::new("suite-one", scene.work(), Arc::new(newer));
    let subscribed = next.bus.subscribe(consumer, &tasks);
    subscribed.await.expect("a subscription");
    eventually(SLOW, || async { taken.load(Ordering::SeqCst) == 1 }).await;
    tasks.token().cancel();
    assert_clean(&scene.db).await;
}

async fn what_no_version_takes_becomes_a_row() {
    let scene = Scene::new(broker().bus_with(MORE)).await;
    let timeless = Envelope {
        time: None,
        ..revoked(&scene, 1)
    };
    let events = [revoked(&scene, 25), revoked(&scene, -25), timeless];
    scene.publish_all(&events).await;
    let recorder = Recorder::new(|_, _| Ok(()));
    scene.subscribe("suite-one", &recorder).await;
    eventually(SLOW, || async { scene.dead_letters().await == 3 }).await;
    let rows = dead_letter::Entity::find().all(scene.db.reader()).await;
    for row in rows.expect("readable") {
        let aged = row.event_id.to_string() == events[0].id;
        let told = "identity.v1.SessionRevoked is not taken by this version";
        assert!(row.reason.starts_with(told), "{}", row.reason);
        assert_eq!(row.reason.ends_with("a day ago"), aged, "{}", row.reason);
    }
}

async fn a_retired_type_comes_no_more() {
    let broker = broker();
    let older = Scene::new(broker.bus_with(MORE)).await;
    older.publish(&older.event(1)).await;
    let newer = Scene::new(broker.bus_retiring(FEWER, RETIRED)).await;
    newer.publish(&newer.event(2)).await;
    let own = newer.own.rabbitmq.as_ref().expect("RabbitMQ");
    let (door, queue) = (own.back_door(), own.bus.queue_of("suite-one"));
    newer.publish(&revoked(&newer, 1)).await;
    assert_eq!(door.take_and_die(&queue, 9).await.expect("taken"), 2);
    // An older process binds it again, and the consumer finds out.
    let again = broker.bus_with(MORE);
    let fact = revoked(&newer, 1);
    let bound = super::bus::until_confirmed(again.bus.as_ref(), std::slice::from_ref(&fact));
    assert!(bound.await[0].is_ok());
    let recorder = Recorder::new(|_, _| Ok(()));
    newer.subscribe("suite-one", &recorder).await;
    eventually(SLOW, || async {
        let published = again.bus.publish(vec![fact.clone()]);
        published.await[0].is_err()
    })
    .await;
    eventually(SLOW, || async { recorder.total() == 2 }).await;
    assert_eq!(newer.dead_letters().await, 0);
}
