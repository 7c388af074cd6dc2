//! The fault test on separate processes: replicas, gateways and servers are killed again and again in the middle of
//! work, and nothing is lost or doubled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::common::load::{Load, Pace};
use crate::common::people::{arrive_all, create_schedule};
use crate::common::{PATIENCE, alone, eventually, proof, seed};

const PEOPLE: usize = 24;
const CLIENTS: usize = 300;
const DEPOSIT_MINOR: i64 = 10_000_000;
const MESSAGES: usize = 2_500;
/// How long things are killed.
const STORM: Duration = Duration::from_secs(120);
/// Enough to have work in flight at every kill for all of the storm, and few enough to be read back at the end.
const PACE: Pace = Pace {
    most_transfers: 40_000,
    longest_pause_ms: 1_500,
};
const TARGETS: [&str; 13] = [
    "auth-service-1",
    "auth-service-2",
    "wallet-service-1",
    "wallet-service-2",
    "notify-service-1",
    "notify-service-2",
    "scheduler-service-1",
    "scheduler-service-2",
    "gateway-1",
    "gateway-2",
    "postgres",
    "rabbitmq",
    "redis",
];

/// Every event is kept to be read back; the SMS simulator is slow enough to be working at many of the kills.
const SETTINGS: [(&str, &str); 9] = [
    ("COFFER_GATEWAY__RATE_LIMIT__USER__QUOTA", "1000000"),
    ("COFFER_GATEWAY__RATE_LIMIT__ANONYMOUS__QUOTA", "1000000"),
    ("COFFER_NOTIFY__STREAM__KEEP_EVENTS_PER_USER", "1000000"),
    ("COFFER_SCHEDULER__SENDING__BATCH_SIZE", "25"),
    ("COFFER_SCHEDULER__SENDING__CONCURRENCY", "1"),
    ("COFFER_SCHEDULER__SENDING__CALL_TIMEOUT_MS", "1000"),
    ("COFFER_SCHEDULER__SENDING__LEASE_MS", "3000"),
    ("COFFER_SCHEDULER__SIMULATOR__SUBMIT_LATENCY_MS", "600"),
    ("COFFER_SCHEDULER__SIMULATOR__DELAY_MAX_MS", "3000"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_any_process_or_server_is_killed_under_load() {
    let _machine = alone().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = Cluster::up(&SETTINGS).await;
    let people = arrive_all(
        &cluster.api(),
        &mut cluster.mailbox(),
        PEOPLE,
        DEPOSIT_MINOR,
    )
    .await;
    let schedule = create_schedule(&people[0], MESSAGES).await;
    let load = Load::start(people.clone(), CLIENTS, seed, PACE);

    let storm = Instant::now();
    let mut kills: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kills_while_sending = 0;
    let mut order: Vec<&str> = Vec::new();
    while storm.elapsed() < STORM {
        // In rounds, so that everything has its turn.
        let target = match order.pop() {
            Some(target) => target,
            None => {
                order = TARGETS.to_vec();
                order.shuffle(&mut random);
                continue;
            }
        };
        // The moment of the kill is the point of the test, so it is drawn, not waited for.
        sleep(Duration::from_millis(random.random_range(500..3_000))).await;
        let answered = load.answered();
        cluster.crash(target).await;
        let sent = proof::given_to_the_simulator(&cluster.sms_journal()).len();
        kills_while_sending += usize::from((1..MESSAGES).contains(&sent));
        println!(
            "{:6.1} s: {target} killed, {answered} answers, {sent} messages",
            storm.elapsed().as_secs_f64()
        );
        sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        cluster.start(target).await;
        *kills.entry(target).or_default() += 1;
    }
    let total: usize = kills.values().sum();
    println!("{total} kills in {:?}: {kills:?}", storm.elapsed());
    let settled = Instant::now();
    let moved = load.finish().await;
    println!(
        "{moved}, the last {:?} after the storm (seed {seed})",
        settled.elapsed()
    );
    assert!(kills.len() == TARGETS.len(), "not everything had its turn");
    assert!(
        kills_while_sending > 1,
        "the schedule hardly ran at any kill"
    );
    assert!(
        moved.repeated > 0 && moved.replayed > 0,
        "no transfer was caught in flight: the kills proved nothing"
    );
    eventually("the product is ready again", PATIENCE, || async {
        cluster.api().ready().await.ok()
    })
    .await;

    proof::schedule_is_final(&people[0], &schedule, MESSAGES).await;
    proof::balances_follow_the_model(&people, &moved, DEPOSIT_MINOR).await;
    proof::histories_hold_each_transfer_once(&people, &moved).await;
    proof::streams_tell_each_transfer_once(&people, &moved).await;
    proof::answers_are_kept(&people, &moved).await;
    proof::ledger_is_sound(&cluster.verify_ledger().await);
    proof::nothing_is_left_behind(&cluster.databases()).await;
    proof::no_message_was_sent_twice(&cluster.sms_journal(), MESSAGES);
    println!("all proofs held {:?} after the storm", settled.elapsed());
}
