//! The fault test: the product is killed again and again in the middle of work, and nothing is lost or doubled.

use std::time::{Duration, Instant};

use launcher::client::Mailbox;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::common::load::{Load, Pace};
use crate::common::people::{arrive_all, create_schedule};
use crate::common::{alone, proof, seed};
use crate::support::databases;
use crate::support::process::Process;

const PEOPLE: usize = 24;
const CLIENTS: usize = 300;
const KILLS: usize = 7;
const DEPOSIT_MINOR: i64 = 10_000_000;
const MESSAGES: usize = 2_500;
/// Enough to have work in flight at every kill, and few enough to be read back at the end.
const PACE: Pace = Pace {
    most_transfers: 20_000,
    longest_pause_ms: 0,
};

/// Every event is kept to be read back; the SMS simulator is slow enough to be working at most of the kills.
const SETTINGS: [(&str, &str); 7] = [
    ("COFFER_NOTIFY__STREAM__KEEP_EVENTS_PER_USER", "1000000"),
    ("COFFER_SCHEDULER__SENDING__BATCH_SIZE", "50"),
    ("COFFER_SCHEDULER__SENDING__CONCURRENCY", "2"),
    ("COFFER_SCHEDULER__SENDING__CALL_TIMEOUT_MS", "1000"),
    ("COFFER_SCHEDULER__SENDING__LEASE_MS", "2000"),
    ("COFFER_SCHEDULER__SIMULATOR__SUBMIT_LATENCY_MS", "400"),
    ("COFFER_SCHEDULER__SIMULATOR__DELAY_MAX_MS", "3000"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_the_product_is_killed_under_load() {
    let _machine = alone().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut product = Process::new(&folder.path().join("data"), &SETTINGS);
    product.start().await;
    let api = product.api();
    let journal = product.data().join("sms-simulator.jsonl");
    let mut mailbox = Mailbox::new(product.data().join("mail"));
    let people = arrive_all(&api, &mut mailbox, PEOPLE, DEPOSIT_MINOR).await;
    let schedule = create_schedule(&people[0], MESSAGES).await;

    let mut kills_while_sending = 0;
    let load = Load::start(people.clone(), CLIENTS, seed, PACE);
    for kill in 1..=KILLS {
        // The moment of the kill is the point of the test, so it is drawn, not waited for.
        let lifetime = Duration::from_millis(random.random_range(150..2_000));
        sleep(lifetime).await;
        let answered = load.answered();
        product.kill().await;
        let sent = proof::given_to_the_simulator(&journal).len();
        kills_while_sending += usize::from((1..MESSAGES).contains(&sent));
        println!("kill {kill} of {KILLS} after {lifetime:?}: {answered} answers, {sent} messages");
        product.start().await;
    }
    let settled = Instant::now();
    let moved = load.finish().await;
    println!("{moved} after {:?} (seed {seed})", settled.elapsed());
    assert!(
        kills_while_sending > 1,
        "the schedule hardly ran at any kill"
    );
    assert!(
        moved.repeated > 0,
        "no transfer was caught in flight: the kills proved nothing"
    );

    proof::schedule_is_final(&people[0], &schedule, MESSAGES).await;
    proof::balances_follow_the_model(&people, &moved, DEPOSIT_MINOR).await;
    proof::histories_hold_each_transfer_once(&people, &moved).await;
    proof::streams_tell_each_transfer_once(&people, &moved).await;
    proof::answers_are_kept(&people, &moved).await;
    proof::ledger_is_sound(&product.run(&["ledger", "verify", "--json"]).await);
    proof::nothing_is_left_behind(&databases(product.data())).await;
    proof::no_message_was_sent_twice(&journal, MESSAGES);
    assert!(
        product.terminate().await.success(),
        "it stops cleanly:\n{}",
        product.log_tail()
    );
}
