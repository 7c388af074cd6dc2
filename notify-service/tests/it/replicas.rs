//! Several replicas on one database.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use platform::consumer::{Consumer, Verdict};
use platform::event_bus::{Envelope, EventBus, PublishError};
use platform::fanout::{Fanout, FanoutReceiver, MemoryFanout};
use platform::test_kit::{TestPlatform, assert_clean, envelope};
use platform::{Error, Tasks};
use proto::identity::v1::UserRegistered;
use proto::scheduler::v1::SmsScheduleFinished;
use rand::seq::SliceRandom;

use crate::helpers::*;

/// A bus that carries nothing by itself: the test hands events to the consumers as it likes.
#[derive(Default)]
struct HandFed {
    consumers: Mutex<Vec<Arc<Consumer>>>,
}

#[async_trait]
impl EventBus for HandFed {
    async fn publish(&self, events: Vec<Envelope>) -> Vec<Result<(), PublishError>> {
        events.iter().map(|_| Ok(())).collect()
    }

    async fn subscribe(&self, consumer: Arc<Consumer>, _: &Tasks) -> Result<(), Error> {
        self.consumers.lock().unwrap().push(consumer);
        Ok(())
    }
}

impl HandFed {
    fn consumer(&self) -> Arc<Consumer> {
        self.consumers.lock().unwrap()[0].clone()
    }
}

/// A world and the consumers of two replicas in it.
async fn two_replicas() -> (World, [Arc<Consumer>; 2]) {
    let world = World::start().await;
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let bus = Arc::new(HandFed::default());
        let mut handles = world.platform.handles_with_own_tasks();
        handles.bus = bus.clone();
        serve(&world.config, handles).await;
        consumers.push(bus.consumer());
    }
    (world, consumers.try_into().ok().unwrap())
}

/// Hands events over until all are taken, in batches of so many; what was put off comes again.
async fn feed(consumer: Arc<Consumer>, mut events: Vec<Envelope>, batch: usize) {
    while !events.is_empty() {
        let mut again = Vec::new();
        for events in events.chunks(batch) {
            let verdicts = consumer.deliver(events).await;
            for (event, verdict) in events.iter().zip(verdicts) {
                if let Verdict::Retry(reason) = verdict {
                    // The only reason there may be: locks are taken in one order.
                    assert!(reason.contains("delivered_elsewhere"), "{reason}");
                    again.push(event.clone());
                }
            }
        }
        events = again;
    }
}

fn shuffled(events: &[Envelope]) -> Vec<Envelope> {
    let mut events = events.to_vec();
    events.shuffle(&mut rand::rng());
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_batches_of_two_replicas_leave_no_gap_and_tell_each_event_once() {
    let (world, [one, other]) = two_replicas().await;
    let now = world.platform.clock().now();
    let mut users = Vec::new();
    for handle in ["AA11", "BB22", "CC33", "DD44", "EE55", "FF66"] {
        users.push(world.register(handle).await);
    }
    let transfers: Vec<_> = (0..300)
        .map(|n| {
            let (from, to) = (&users[n % 6], &users[(n + 1 + n / 6 % 5) % 6]);
            let transfer = world.transfer_event(from, to, i64::try_from(n).unwrap() + 1);
            envelope(now, &transfer.transaction_id, &transfer)
        })
        .collect();
    // A third of them comes to both.
    tokio::join!(
        feed(one, shuffled(&transfers[..200]), 16),
        feed(other, shuffled(&transfers[100..]), 23),
    );

    let mut told: HashMap<String, u32> = HashMap::new();
    for user in &users {
        let events = world.events(user).await;
        let numbers: Vec<_> = events.iter().map(|event| event.seq).collect();
        let wanted: Vec<_> = (1..=i64::try_from(events.len()).unwrap()).collect();
        assert_eq!(numbers, wanted, "the numbers of {}", user.handle);
        for event in events.iter().filter(|e| e.event == "transaction.created") {
            let id = data(event)["transaction_id"].as_str().unwrap().to_owned();
            *told.entry(id).or_default() += 1;
        }
        assert_eq!(world.unread(user).await * 3, numbers.len() as i64);
    }
    assert_eq!(told.len(), 300);
    assert!(told.values().all(|times| *times == 2), "{told:?}");
    assert_clean(&world.db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_who_are_new_to_both_replicas_at_once_get_whole_streams() {
    let (world, [one, other]) = two_replicas().await;
    let now = world.platform.clock().now();
    let users: Vec<User> = (0..60)
        .map(|n| User {
            id: new_id(),
            account: new_id(),
            handle: format!("NEW{n}"),
        })
        .collect();
    let deposits = |minor: i64| -> Vec<Envelope> {
        let each = |user| envelope(now, "", &world.deposit_event(user, minor));
        users.iter().map(each).collect()
    };
    let names: Vec<_> = users
        .iter()
        .map(|user| envelope(now, user.id, &registered(user)))
        .collect();
    let mixed = |deposits: &[Envelope]| shuffled(&[deposits, &names].concat());
    tokio::join!(
        feed(one, mixed(&deposits(1)), 32),
        feed(other, mixed(&deposits(2)), 32),
    );
    for user in &users {
        let events = world.events(user).await;
        let numbers: Vec<_> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        assert_eq!(world.unread(user).await, 2);
    }
    assert_clean(&world.db).await;
}

#[tokio::test]
async fn a_commit_on_one_replica_reaches_readers_on_another_at_once() {
    // The clock stands: nobody looks by himself.
    let mut world = World::start_with_manual_clock().await;
    let asha = world.register("AS12").await;
    let second = serve(&world.config, world.platform.handles_with_own_tasks()).await;
    world.ready(&second).await;
    let first = std::mem::replace(&mut world.client, second);
    let mut listener = world
        .subscribe(&world.token(&asha), Some(0), "")
        .await
        .unwrap();
    world.client = first;
    send_test(&world, &asha).await.unwrap();
    assert_eq!(listener.next().await.unwrap().seq, 1);
}

/// A carrier that does not answer, or answers that it is away.
struct Away {
    silent: bool,
}

#[async_trait]
impl Fanout for Away {
    async fn publish(&self, _: &str, _: Bytes) -> Result<(), Error> {
        self.subscribe("").await.map(drop)
    }

    async fn subscribe(&self, _: &str) -> Result<FanoutReceiver, Error> {
        if self.silent {
            std::future::pending::<()>().await;
        }
        Err(Error::unavailable("fanout_unavailable", "away"))
    }
}

#[tokio::test]
async fn without_pokes_readers_look_by_themselves() {
    for silent in [false, true] {
        let platform = TestPlatform::start().await;
        let mut world = World::start_on(platform, |config| config.stream.look_every_ms = 100).await;
        let asha = world.register("AS12").await;
        let mut handles = world.platform.handles_with_own_tasks();
        handles.fanout = Arc::new(Away { silent });
        let deaf = serve(&world.config, handles).await;
        world.ready(&deaf).await;
        let first = std::mem::replace(&mut world.client, deaf);
        let mut listener = world
            .subscribe(&world.token(&asha), Some(0), "")
            .await
            .unwrap();
        world.client = first;
        for _ in 0..3 {
            send_test(&world, &asha).await.unwrap();
        }
        let numbers = listener.take(3).await.into_iter().map(|event| event.seq);
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3]);
    }
}

/// A carrier whose listeners can be cut off.
#[derive(Default)]
struct Breaking {
    carrier: Mutex<Arc<MemoryFanout>>,
    /// While it is broken nobody can listen.
    broken: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Fanout for Breaking {
    async fn publish(&self, topic: &str, payload: Bytes) -> Result<(), Error> {
        let carrier = self.carrier.lock().unwrap().clone();
        carrier.publish(topic, payload).await
    }

    async fn subscribe(&self, topic: &str) -> Result<FanoutReceiver, Error> {
        if self.broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::unavailable("fanout_unavailable", "away"));
        }
        let carrier = self.carrier.lock().unwrap().clone();
        carrier.subscribe(topic).await
    }
}

#[tokio::test]
async fn a_carrier_that_breaks_and_comes_back_loses_nothing() {
    let platform = TestPlatform::start().await;
    let mut world = World::start_on(platform, |config| config.stream.look_every_ms = 100).await;
    let asha = world.register("AS12").await;
    let fanout = Arc::new(Breaking::default());
    let mut handles = world.platform.handles_with_own_tasks();
    handles.fanout = fanout.clone();
    world.client = serve(&world.config, handles).await;
    world.ready(&world.client).await;
    let mut listener = world
        .subscribe(&world.token(&asha), Some(0), "")
        .await
        .unwrap();
    for (seq, broken) in [(1, false), (2, true), (3, true), (4, false), (5, false)] {
        fanout
            .broken
            .store(broken, std::sync::atomic::Ordering::Relaxed);
        if broken {
            *fanout.carrier.lock().unwrap() = Arc::default();
        }
        send_test(&world, &asha).await.unwrap();
        assert_eq!(listener.next().await.unwrap().seq, seq);
    }
}

#[tokio::test]
async fn retention_on_two_replicas_removes_each_thing_once() {
    let platform = TestPlatform::start_with_manual_clock().await;
    let world = World::start_on(platform, |config| {
        config.stream.keep_events_per_user = 10;
        config.inbox.keep_per_user = 3;
    })
    .await;
    serve(&world.config, world.platform.handles_with_own_tasks()).await;
    let mut users = Vec::new();
    for handle in ["AA11", "BB22", "CC33"] {
        let user = world.register(handle).await;
        for _ in 0..8 {
            let deposit = world.deposit_event(&user, 1);
            world.platform.emit(user.id, &deposit).await;
        }
        let token = world.token(&user);
        for device in ["a", "b"] {
            world.acknowledge(&token, 20, device).await.unwrap();
        }
        users.push(user);
    }
    let counts = async |user: &User| {
        let mut counts = BTreeMap::new();
        for (name, sql) in [
            (
                "events",
                "SELECT COUNT(*) FROM stream_events WHERE user_id = $1",
            ),
            (
                "first",
                "SELECT first_kept FROM stream_heads WHERE user_id = $1",
            ),
            (
                "entries",
                "SELECT entries FROM stream_heads WHERE user_id = $1",
            ),
            (
                "inbox",
                "SELECT COUNT(*) FROM notifications WHERE user_id = $1",
            ),
            (
                "unread",
                "SELECT unread FROM stream_heads WHERE user_id = $1",
            ),
            (
                "devices",
                "SELECT COUNT(*) FROM stream_acknowledgements WHERE user_id = $1",
            ),
        ] {
            counts.insert(name, world.number(sql, user.id).await.unwrap());
        }
        counts
    };
    let settled = async |wanted: [(&'static str, i64); 6], hours: i64| {
        let wanted = BTreeMap::from(wanted);
        for user in &users {
            platform::test_kit::eventually(platform::test_kit::DEADLINE, || async {
                let clock = world.platform.manual_clock();
                clock.advance(jiff::SignedDuration::from_hours(hours));
                counts(user).await == wanted
            })
            .await;
        }
    };
    // A round each hour, as far as the clock of this test is concerned.
    settled(
        [
            ("events", 10),
            ("first", 15),
            ("entries", 3),
            ("inbox", 3),
            ("unread", 3),
            ("devices", 2),
        ],
        1,
    )
    .await;
    settled(
        [
            ("events", 0),
            ("first", 25),
            ("entries", 0),
            ("inbox", 0),
            ("unread", 0),
            ("devices", 0),
        ],
        240,
    )
    .await;
}

#[tokio::test]
async fn characters_that_a_database_refuses_stop_nothing() {
    let world = World::start().await;
    let now = world.platform.clock().now();
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let name = UserRegistered {
        handle: "B\0O\u{1}99".to_owned(),
        version: 2,
        ..registered(&bola)
    };
    world.platform.emit(bola.id, &name).await;
    let mut transfer = world.transfer_event(&asha, &bola, 1);
    transfer.category = "fo\0od".to_owned();
    let mut event = envelope(now, asha.id, &transfer);
    event.traceparent = "00-\0".to_owned();
    world.platform.publish(event).await;
    let finished = SmsScheduleFinished {
        schedule_id: new_id().to_string(),
        user_id: asha.id.to_string(),
        status: "fin\0ished".to_owned(),
        total: 1,
        delivered: 1,
    };
    world.platform.emit(asha.id, &finished).await;
    let events = world.events(&asha).await;
    assert_eq!(data(&events[0])["category"], "food");
    assert_eq!(data(&events[2])["title"], "You paid BO99");
    assert_eq!(events[0].traceparent, "");
    assert_eq!(events.len(), 4);
    let refused = world
        .subscribe(&world.token(&asha), None, "a\0b")
        .await
        .unwrap_err();
    assert_eq!(field(&refused), "device_id");
    assert_clean(&world.db).await;
}
