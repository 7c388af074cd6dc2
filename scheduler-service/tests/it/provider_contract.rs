use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use platform::SharedClock;
use platform::test_kit::ManualClock;
use scheduler_service::providers::{
    LookedUp, Queried, SmsProvider, Submission, Submitted, contract,
};
use scheduler_service::{Simulator, SimulatorConfig, simulator_journal};
use uuid::Uuid;

use crate::harness::numbers;
use crate::providers::Deduping;

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
async fn a_provider_that_dedupes_keeps_that_promise_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let simulator = Simulator::open(config(&dir), clock.clone() as SharedClock)
        .await
        .unwrap();
    let deduping = Deduping::new(simulator);
    let numbers = numbers(50);
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let broken = contract::broken_promises(&deduping, &numbers, || {
        clock.advance(SignedDuration::from_millis(50));
        std::future::ready(())
    })
    .await;
    assert_eq!(broken, Vec::<String>::new());
    assert_eq!(simulator_journal(&config(&dir).journal).unwrap().len(), 50);
}

fn submissions(count: usize) -> Vec<Submission> {
    numbers(count)
        .into_iter()
        .map(|to| Submission {
            reference: Uuid::now_v7(),
            to,
            text: "hi".into(),
        })
        .collect()
}

fn ids(answers: Vec<Submitted>) -> Vec<LookedUp> {
    let known = |answer| match answer {
        Submitted::Accepted {
            provider_message_id,
        } => LookedUp::Known {
            provider_message_id,
        },
        other => panic!("{other:?}"),
    };
    answers.into_iter().map(known).collect()
}

#[tokio::test]
async fn simulators_of_one_journal_know_what_each_other_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let open = || Simulator::open(config(&dir), clock.clone() as SharedClock);
    let (one, two) = (open().await.unwrap(), open().await.unwrap());
    let all = submissions(2_000);
    let references = |some: &[Submission]| some.iter().map(|s| s.reference).collect::<Vec<_>>();
    // Both write at once; a line of the one may stand between any two calls of the other.
    let calls = all.chunks(20).enumerate().map(|(n, some)| {
        let simulator = if n % 2 == 0 { &one } else { &two };
        async move { ids(simulator.submit(some).await) }
    });
    let given: Vec<LookedUp> = join_all(calls).await.concat();
    assert_eq!(one.lookup(&references(&all)).await, given);
    assert_eq!(two.lookup(&references(&all)).await, given);
    let journal = simulator_journal(&config(&dir).journal).unwrap();
    let distinct: HashSet<Uuid> = journal.iter().map(|record| record.reference).collect();
    assert_eq!((journal.len(), distinct.len()), (2_000, 2_000));
}

#[tokio::test]
async fn a_simulator_killed_within_a_line_hurts_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let open = || Simulator::open(config(&dir), clock.clone() as SharedClock);
    let (one, two) = (open().await.unwrap(), open().await.unwrap());
    let all = submissions(4);
    let first = ids(one.submit(&all[..1]).await);
    // A third one dies within the second line of its write.
    let lost = Uuid::now_v7();
    let line = |reference: Uuid| {
        format!("{{\"reference\":\"{reference}\",\"to\":\"+27821234567\",\"at\":1}}")
    };
    let torn = format!("\n{}\n{}", line(all[1].reference), &line(lost)[..60]);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(config(&dir).journal)
        .unwrap();
    file.write_all(torn.as_bytes()).unwrap();
    let asked = [all[0].reference, all[1].reference, lost];
    for simulator in [&one, &two] {
        let found = simulator.lookup(&asked).await;
        assert_eq!(found[0], first[0]);
        assert!(matches!(found[1], LookedUp::Known { .. }));
        assert_eq!(found[2], LookedUp::Unknown);
    }
    let after = [
        ids(one.submit(&all[2..3]).await),
        ids(two.submit(&all[3..]).await),
    ]
    .concat();
    let asked = [all[2].reference, all[3].reference, lost];
    for simulator in [one, two, open().await.unwrap()] {
        let found = simulator.lookup(&asked).await;
        assert_eq!(found[..2], after);
        assert_eq!(found[2], LookedUp::Unknown);
    }
    assert_eq!(simulator_journal(&config(&dir).journal).unwrap().len(), 4);
}

#[tokio::test]
async fn what_a_simulator_was_given_counts_even_when_the_call_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let simulator = Simulator::open(config(&dir), clock.clone() as SharedClock)
        .await
        .unwrap();
    for message in submissions(40) {
        let batch = std::slice::from_ref(&message);
        // Dropped after its first step: the line is there for ever, or never will be.
        drop(futures::poll!(std::pin::pin!(simulator.submit(batch))));
        let found = simulator.lookup(&[message.reference]).await;
        let given = found[0] != LookedUp::Unknown;
        let journal = simulator_journal(&config(&dir).journal).unwrap();
        let stands = journal.iter().any(|one| one.reference == message.reference);
        assert_eq!(given, stands);
        assert_eq!(simulator.lookup(&[message.reference]).await, found);
    }
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
