use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use launcher::client::{ApiError, Money, Session};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::people::key;

/// A transfer gets an answer within this time, however often the product dies meanwhile.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// More than anybody has: one transfer in fifty must be refused.
const TOO_MUCH_MINOR: i64 = 1_000_000_000;

/// One transfer that was answered.
pub(crate) struct Transfer {
    pub(crate) key: String,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) minor: i64,
    /// Id of the transaction; none when the ledger refused it.
    pub(crate) id: Option<String>,
}

/// What the clients saw: the model that the product must agree with.
pub(crate) struct Moved {
    pub(crate) transfers: Vec<Transfer>,
    /// Requests that were sent again because no answer had come.
    pub(crate) repeated: usize,
    /// Answers that were replays: the first request had been carried out, its answer was lost.
    pub(crate) replayed: usize,
}

impl Moved {
    /// Transfers that moved money.
    pub(crate) fn posted(&self) -> impl Iterator<Item = (&Transfer, &str)> {
        self.transfers
            .iter()
            .filter_map(|one| one.id.as_deref().map(|id| (one, id)))
    }
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} transfers answered, {} posted, {} requests repeated, {} answers replayed",
            self.transfers.len(),
            self.posted().count(),
            self.repeated,
            self.replayed
        )
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    begun: AtomicUsize,
    answered: AtomicUsize,
    repeated: AtomicUsize,
    replayed: AtomicUsize,
}

/// How hard the clients press.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// All of them together make at most this many transfers.
    pub(crate) most_transfers: usize,
    /// Each rests up to this long between two, in milliseconds.
    pub(crate) longest_pause_ms: u64,
}

/// Clients that pay each other without pause.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<Transfer>>,
}

impl Load {
    pub(crate) fn start(people: Vec<Session>, clients: usize, seed: u64, pace: Pace) -> Self {
        let shared = Arc::new(Shared::default());
        let people: Arc<[Session]> = people.into();
        let mut tasks = JoinSet::new();
        for number in 0..clients as u64 {
            let random = StdRng::seed_from_u64(seed.wrapping_add(number + 1));
            tasks.spawn(pay_on(
                Arc::clone(&people),
                Arc::clone(&shared),
                random,
                pace,
            ));
        }
        Self {
            shared,
            clients: tasks,
        }
    }

    pub(crate) fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Lets every client finish what it has begun.
    pub(crate) async fn finish(mut self) -> Moved {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut transfers = Vec::new();
        while let Some(done) = self.clients.join_next().await {
            transfers.extend(done.expect("every transfer gets an answer"));
        }
        Moved {
            transfers,
            repeated: self.shared.repeated.load(Ordering::Relaxed),
            replayed: self.shared.replayed.load(Ordering::Relaxed),
        }
    }
}

async fn pay_on(
    people: Arc<[Session]>,
    shared: Arc<Shared>,
    mut random: StdRng,
    pace: Pace,
) -> Vec<Transfer> {
    let mut done = Vec::new();
    while !shared.stop.load(Ordering::Relaxed)
        && shared.begun.fetch_add(1, Ordering::Relaxed) < pace.most_transfers
    {
        let from = random.random_range(0..people.len());
        let to = (from + random.random_range(1..people.len())) % people.len();
        let too_much = random.random_range(0..50) == 0;
        let minor = if too_much {
            TOO_MUCH_MINOR
        } else {
            random.random_range(1..1_000)
        };
        let mut transfer = Transfer {
            key: key(),
            from,
            to,
            minor,
            id: None,
        };
        transfer.id = until_answered(&people, &transfer, &shared, &mut random).await;
        assert_eq!(
            transfer.id.is_none(),
            too_much,
            "only the unaffordable is refused"
        );
        shared.answered.fetch_add(1, Ordering::Relaxed);
        done.push(transfer);
        if pace.longest_pause_ms > 0 {
            sleep(Duration::from_millis(
                random.random_range(0..pace.longest_pause_ms),
            ))
            .await;
        }
    }
    done
}

async fn until_answered(
    people: &[Session],
    transfer: &Transfer,
    shared: &Shared,
    random: &mut StdRng,
) -> Option<String> {
    let (payer, handle) = (&people[transfer.from], &people[transfer.to].user().handle);
    let amount = Money::inr(transfer.minor);
    let begun = Instant::now();
    loop {
        let refusal = match payer
            .transfer(&transfer.key, handle, &amount, "Under fire")
            .await
        {
            Ok(reply) => {
                assert_eq!(reply.body.status, "posted", "{}", transfer.key);
                shared
                    .replayed
                    .fetch_add(usize::from(reply.replayed), Ordering::Relaxed);
                return Some(reply.body.id);
            }
            Err(ApiError::Refused(problem)) if problem.code == "insufficient_funds" => return None,
            Err(error) => error,
        };
        assert!(refusal.is_unanswered(), "{}: {refusal}", transfer.key);
        assert!(
            begun.elapsed() < ANSWER_DEADLINE,
            "{} has no answer: {refusal}",
            transfer.key
        );
        shared.repeated.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(random.random_range(20..200))).await;
    }
}
