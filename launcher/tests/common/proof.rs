use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use launcher::client::{EventStream, Money, Session, StreamEvent};

use platform::database::{Database, DatabaseConfig};
use platform::{consumer, outbox};

use super::eventually;
use super::load::Moved;
use super::people::{EVENT_PATIENCE, balance};

const SETTLE: Duration = Duration::from_secs(120);

pub(crate) async fn schedule_is_final(owner: &Session, schedule: &str, messages: usize) {
    let progress = eventually("every message is final", SETTLE, || async {
        let progress = owner
            .sms_progress(schedule)
            .await
            .expect("progress is read");
        (progress.finished_at.is_some()).then_some(progress)
    })
    .await;
    let messages = messages as i64;
    assert_eq!(
        (progress.total, progress.final_count()),
        (messages, messages),
        "{progress:?}"
    );
}

pub(crate) async fn balances_follow_the_model(people: &[Session], moved: &Moved, deposit: i64) {
    let mut expected = vec![deposit; people.len()];
    for (transfer, _) in moved.posted() {
        expected[transfer.from] -= transfer.minor;
        expected[transfer.to] += transfer.minor;
    }
    for (person, expected) in people.iter().zip(expected) {
        assert_eq!(
            balance(person).await,
            expected,
            "balance of {}",
            person.user().first_name
        );
    }
}

/// Ids of the transfers of each person by the model.
fn expected_ids<'a>(people: &[Session], moved: &'a Moved) -> Vec<HashSet<&'a str>> {
    let mut expected = vec![HashSet::new(); people.len()];
    for (transfer, id) in moved.posted() {
        assert!(
            expected[transfer.from].insert(id),
            "two keys were answered with {id}"
        );
        expected[transfer.to].insert(id);
    }
    expected
}

pub(crate) async fn histories_hold_each_transfer_once(people: &[Session], moved: &Moved) {
    for (person, expected) in people.iter().zip(expected_ids(people, moved)) {
        let name = &person.user().first_name;
        let (mut found, mut cursor) = (HashSet::new(), None::<String>);
        loop {
            let page = person
                .transactions(cursor.as_deref(), 100)
                .await
                .expect("history is read");
            for one in page.data.iter().filter(|one| one.status == "posted") {
                assert!(found.insert(one.id.clone()), "{name} has {} twice", one.id);
            }
            cursor = page.next().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        // The deposit is the one more.
        assert_eq!(found.len(), expected.len() + 1, "history of {name}");
        assert!(
            expected.iter().all(|id| found.contains(*id)),
            "{name} misses a transfer"
        );
    }
}

pub(crate) async fn streams_tell_each_transfer_once(people: &[Session], moved: &Moved) {
    for (person, expected) in people.iter().zip(expected_ids(people, moved)) {
        let name = &person.user().first_name;
        let events = whole_stream(person, expected.len() + 1).await;
        for (event, number) in events.iter().zip(1..) {
            assert_eq!(
                event.seq, number,
                "the stream of {name} has a gap or a repetition"
            );
        }
        for kind in ["transaction.created", "notification.created"] {
            let mut told: HashMap<&str, usize> = HashMap::new();
            for event in events.iter().filter(|event| event.event == kind) {
                *told.entry(transaction_of(event)).or_default() += 1;
            }
            for id in &expected {
                let times = told.get(id).copied().unwrap_or_default();
                assert_eq!(times, 1, "{kind} of {id} was told to {name} {times} times");
            }
        }
        let balances: Vec<i64> = events
            .iter()
            .filter(|event| event.event == "balance.updated")
            .map(|event| {
                event.data["version"]
                    .as_i64()
                    .expect("a balance has a version")
            })
            .collect();
        let versions: HashSet<&i64> = balances.iter().collect();
        assert_eq!(
            balances.len(),
            expected.len() + 1,
            "balances told to {name}"
        );
        assert_eq!(
            versions.len(),
            balances.len(),
            "a balance was told to {name} twice"
        );
    }
}

/// Everything from the first event on, once as many transactions as expected have been told.
async fn whole_stream(person: &Session, transactions: usize) -> Vec<StreamEvent> {
    let token = &person.tokens.access_token;
    let name = &person.user().first_name;
    eventually(
        &format!("{name} is told of {transactions} transactions"),
        SETTLE,
        || async {
            let mut stream = EventStream::open(person.api(), token, Some(0))
                .await
                .expect("it opens");
            let head = usize::try_from(stream.head()).expect("a number from 0");
            let events = stream
                .take(head, EVENT_PATIENCE)
                .await
                .expect("all are sent");
            stream.close().await;
            let told = events
                .iter()
                .filter(|event| event.event == "balance.updated")
                .count();
            (told >= transactions).then_some(events)
        },
    )
    .await
}

fn transaction_of(event: &StreamEvent) -> &str {
    let names = ["transaction_id", "entity_id"];
    names
        .iter()
        .find_map(|name| event.data[*name].as_str())
        .unwrap_or_default()
}

/// Asks again with keys that were answered before: the answers must be the same ones.
pub(crate) async fn answers_are_kept(people: &[Session], moved: &Moved) {
    for transfer in moved
        .transfers
        .iter()
        .step_by(moved.transfers.len().div_ceil(100).max(1))
    {
        let (payer, handle) = (&people[transfer.from], &people[transfer.to].user().handle);
        let amount = Money::inr(transfer.minor);
        let again = payer
            .transfer(&transfer.key, handle, &amount, "Under fire")
            .await;
        match (again, &transfer.id) {
            (Ok(reply), Some(id)) => {
                assert!(reply.replayed, "{} was carried out again", transfer.key);
                assert_eq!(reply.body.id, *id);
            }
            (Err(error), None) => {
                let problem = error.problem().expect("an answer").clone();
                assert_eq!(problem.code, "insufficient_funds");
                assert!(problem.replayed, "{} was decided again", transfer.key);
            }
            (again, _) => panic!("{} is answered with {again:?}", transfer.key),
        }
    }
}

/// Entries sum to zero, balances equal entries: by what `coffer ledger verify --json` said.
pub(crate) fn ledger_is_sound(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ledger verify says {text} {errors}"
    );
    let report: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(report["ok"], true, "{report}");
}

/// No fact waits to be told and none was given up, in any service.
pub(crate) async fn nothing_is_left_behind(databases: &[(&str, DatabaseConfig)]) {
    for (service, database) in databases {
        let db = Database::connect(database).await.expect("it can be read");
        eventually(
            &format!("{service} has told everything"),
            SETTLE,
            || async {
                let dead = consumer::dead_letters(db.reader())
                    .await
                    .expect("dead letters can be read");
                assert_eq!(dead, 0, "{service} has dead letters");
                let unsent = outbox::unsent(db.reader())
                    .await
                    .expect("the outbox can be read");
                (unsent == 0).then_some(())
            },
        )
        .await;
        db.close().await;
    }
}

pub(crate) fn no_message_was_sent_twice(journal: &Path, messages: usize) {
    let sent = given_to_the_simulator(journal);
    let distinct: HashSet<&String> = sent.iter().collect();
    assert_eq!(sent.len(), distinct.len(), "a message was sent twice");
    assert_eq!(distinct.len(), messages, "every message was sent");
}

/// Numbers of all messages that the simulator was ever given, in order: it writes each down.
pub(crate) fn given_to_the_simulator(journal: &Path) -> Vec<String> {
    let journal = scheduler_service::simulator_journal(journal).expect("it can be read");
    journal.into_iter().map(|record| record.to).collect()
}
