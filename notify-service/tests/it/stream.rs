//! The numbered stream: resume, live events, acknowledgements.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::helpers::*;

#[tokio::test]
async fn live_events_arrive_without_waiting_for_a_timer() {
    // The clock stands, so the timer that looks by itself never fires.
    let world = World::start_with_manual_clock().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let mut first = world
        .subscribe(&world.token(&bola), None, "phone")
        .await
        .unwrap();
    let mut second = world
        .subscribe(&world.token(&bola), None, "desk")
        .await
        .unwrap();
    assert_eq!((first.ready, second.ready), (0, 0));
    for round in 0..3 {
        world.transfer(&asha, &bola, 100).await;
        for listener in [&mut first, &mut second] {
            let numbers: Vec<_> = listener
                .take(3)
                .await
                .iter()
                .map(|event| event.seq)
                .collect();
            assert_eq!(numbers, [round * 3 + 1, round * 3 + 2, round * 3 + 3]);
        }
    }
    // One that goes does not take the other along.
    drop(first);
    world.transfer(&asha, &bola, 100).await;
    assert_eq!(second.take(3).await[2].seq, 12);
    assert!(second.is_quiet().await);
}

#[tokio::test]
async fn after_a_disconnect_exactly_what_was_missed_comes_once_and_in_order() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let token = world.token(&bola);
    let mut listener = world.subscribe(&token, Some(0), "phone").await.unwrap();
    world.transfer(&asha, &bola, 1).await;
    let last = listener.take(2).await[1].seq;
    drop(listener);

    for amount in 2..=4 {
        world.transfer(&asha, &bola, amount).await;
    }
    let mut again = world.subscribe(&token, Some(last), "phone").await.unwrap();
    assert_eq!(again.ready, 12);
    let missed: Vec<_> = again.take(10).await.iter().map(|event| event.seq).collect();
    assert_eq!(missed, (3..=12).collect::<Vec<_>>());
    assert!(again.is_quiet().await);
    world.transfer(&asha, &bola, 5).await;
    assert_eq!(again.next().await.unwrap().seq, 13);
}

#[tokio::test]
async fn more_than_a_page_of_missed_events_comes_whole() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    futures::future::join_all((0..200).map(|_| world.transfer(&asha, &bola, 1))).await;
    let numbers: Vec<_> = world
        .events(&bola)
        .await
        .iter()
        .map(|event| event.seq)
        .collect();
    assert_eq!(numbers, (1..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let mut slow = world
        .subscribe(&world.token(&bola), Some(0), "slow")
        .await
        .unwrap();
    let mut quick = world
        .subscribe(&world.token(&bola), Some(0), "quick")
        .await
        .unwrap();
    for _ in 0..4 {
        futures::future::join_all((0..50).map(|_| world.transfer(&asha, &bola, 1))).await;
        quick.take(150).await;
    }
    let numbers: Vec<_> = slow.take(600).await.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_devices_acknowledge_independently() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    world.transfer(&asha, &bola, 1).await;
    world.transfer(&asha, &bola, 2).await;
    let token = world.token(&bola);
    world.acknowledge(&token, 4, "phone").await.unwrap();
    world.acknowledge(&token, 2, "desk").await.unwrap();
    // Never backwards.
    world.acknowledge(&token, 3, "phone").await.unwrap();

    for (device, next) in [("phone", 5), ("desk", 3), ("new", 1)] {
        let mut listener = world.subscribe(&token, None, device).await.unwrap();
        assert_eq!(listener.next().await.unwrap().seq, next, "{device}");
    }
    // The same device name in another session is another device.
    let mut other = world
        .subscribe(&world.token(&bola), None, "phone")
        .await
        .unwrap();
    assert_eq!(other.next().await.unwrap().seq, 1);
    // What the client says goes before what was acknowledged.
    let mut told = world.subscribe(&token, Some(1), "phone").await.unwrap();
    assert_eq!(told.next().await.unwrap().seq, 2);
}

#[tokio::test]
async fn positions_that_cannot_be_are_refused() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    world
        .platform
        .emit(asha.id, &world.deposit_event(&asha, 1))
        .await;
    let token = world.token(&asha);
    for after in [4, i64::MAX, -1, i64::MIN] {
        let refused = world.subscribe(&token, Some(after), "").await.unwrap_err();
        assert_eq!(
            (reason(&refused).as_str(), field(&refused).as_str()),
            ("invalid_argument", "after")
        );
        let refused = world.acknowledge(&token, after, "").await.unwrap_err();
        assert_eq!(field(&refused), "seq");
    }
    for device in ["x".repeat(101), "a\nb".to_owned()] {
        let refused = world.subscribe(&token, None, &device).await.unwrap_err();
        assert_eq!(field(&refused), "device_id");
        let refused = world.acknowledge(&token, 1, &device).await.unwrap_err();
        assert_eq!(field(&refused), "device_id");
    }
}

#[tokio::test]
async fn nobody_sees_the_stream_of_another() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let mut listener = world
        .subscribe(&world.token(&bola), Some(0), "")
        .await
        .unwrap();
    world
        .platform
        .emit(asha.id, &world.deposit_event(&asha, 1))
        .await;
    assert!(listener.is_quiet().await);
    let refused = world.subscribe("nonsense", Some(0), "").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn a_stop_of_one_replica_ends_its_streams_and_another_goes_on() {
    let mut world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    world.transfer(&asha, &bola, 1).await;
    // A second process on the same database.
    let handles = world.platform.handles_with_own_tasks();
    let second = serve(&world.config, handles.clone()).await;
    world.ready(&second).await;
    let first = std::mem::replace(&mut world.client, second);
    let mut listener = world
        .subscribe(&world.token(&bola), Some(0), "")
        .await
        .unwrap();
    assert_eq!(listener.take(3).await[2].seq, 3);
    let left = handles.tasks.shutdown(platform::test_kit::DEADLINE).await;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(reason(&listener.next().await.unwrap_err()), "shutting_down");
    world.client = first;
    let mut again = world
        .subscribe(&world.token(&bola), Some(2), "")
        .await
        .unwrap();
    assert_eq!(again.next().await.unwrap().seq, 3);
}

/// Whatever the order of events, connections and losses: a device that goes on where it stopped has every number once.
#[test]
fn any_sequence_of_connections_gets_every_event_once_in_order() {
    #[derive(Debug, Clone)]
    enum Step {
        Tell(usize),
        Connect {
            device: u8,
            take: usize,
            acknowledge: bool,
        },
    }
    let step = prop_oneof![
        (1_usize..4).prop_map(Step::Tell),
        (0_u8..3, 0_usize..12, any::<bool>()).prop_map(|(device, take, acknowledge)| {
            Step::Connect {
                device,
                take,
                acknowledge,
            }
        }),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::start());
    let mut runner = TestRunner::new(Config::with_cases(24));
    let outcome = runner.run(&proptest::collection::vec(step, 1..12), |steps| {
        runtime.block_on(async {
            let asha = world.register("AS12").await;
            let token = world.token(&asha);
            let mut head = 0;
            // What each device has, and what it acknowledged.
            let mut devices: BTreeMap<u8, (i64, i64)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Tell(count) => {
                        for _ in 0..count {
                            let deposit = world.deposit_event(&asha, 1);
                            world.platform.emit(asha.id, &deposit).await;
                            head += 3;
                        }
                    }
                    Step::Connect {
                        device,
                        take,
                        acknowledge,
                    } => {
                        let name = device.to_string();
                        let (has, acknowledged) = devices.entry(device).or_default();
                        // By its own memory, or by what the service remembers.
                        let after = (!acknowledge || *has != *acknowledged).then_some(*has);
                        let mut listener = world.subscribe(&token, after, &name).await.unwrap();
                        prop_assert_eq!(listener.ready, head);
                        let there = usize::try_from(head - *has).unwrap();
                        for event in listener.take(take.min(there)).await {
                            prop_assert_eq!(event.seq, *has + 1);
                            *has = event.seq;
                        }
                        if acknowledge {
                            world.acknowledge(&token, *has, &name).await.unwrap();
                            *acknowledged = *has;
                        }
                    }
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
