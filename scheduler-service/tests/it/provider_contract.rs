use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use platform::SharedClock;
use platform::test_kit::ManualClock;
use scheduler_service::providers::{LookedUp, Queried, SmsProvider, Submission, contract};
use scheduler_service::{Simulator, SimulatorConfig, simulator_journal};
use uuid::Uuid;

use crate::harness::numbers;

fn config(dir: &tempfile::TempDir) -> SimulatorConfig {
    SimulatorConfig {
        journal: dir.path().join("journal.jsonl"),
        submit_latency_ms: 0,
        undeliverable: 0.2,
        expired: 0.1,
        rejected: 0.1,
        deleted: 0.1,
        ..SimulatorConfig::default()
    }
}

#[tokio::test]
async fn the_simulator_keeps_the_promises_of_a_provider() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let simulator = Simulator::open(config(&dir), clock.clone() as SharedClock)
        .await
        .unwrap();
    let numbers = numbers(50);
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let broken = contract::broken_promises(&simulator, &numbers, || {
        clock.advance(SignedDuration::from_millis(50));
        std::future::ready(())
    })
    .await;
    assert_eq!(broken, Vec::<String>::new());
}

#[tokio::test]
async fn the_simulator_remembers_across_lives_and_shows_double_sends() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let message = Submission {
        reference: Uuid::now_v7(),
        to: "+27821234567".to_owned(),
        text: "hi".into(),
    };
    let first = Simulator::open(config(&dir), clock.clone() as SharedClock)
        .await
        .unwrap();
    first.submit(std::slice::from_ref(&message)).await;
    drop(first);
    clock.advance(SignedDuration::from_secs(10));
    let second = Simulator::open(config(&dir), clock.clone() as SharedClock)
        .await
        .unwrap();
    let found = second.lookup(&[Uuid::now_v7(), message.reference]).await;
    let LookedUp::Known {
        provider_message_id,
    } = &found[1]
    else {
        panic!("{found:?}")
    };
    assert_eq!(found[0], LookedUp::Unknown);
    let state = second
        .query(std::slice::from_ref(provider_message_id))
        .await;
    assert!(matches!(&state[0], Queried::Became { state, .. } if state.is_final()));
    second.submit(std::slice::from_ref(&message)).await;
    let journal = simulator_journal(&config(&dir).journal).unwrap();
    assert_eq!(journal.len(), 2);
    assert!(
        journal
            .iter()
            .all(|record| record.reference == message.reference)
    );
}
