//! The poster: the one way to move money.
//!
//! Commands wait in a bounded queue. A task takes those that wait, without any timer, and commits them as one
//! transaction; while it does, the next ones gather. So an idle system answers at once and a busy one pays for a
//! commit once for hundreds of commands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use platform::idempotency::{self, outcome_unknown};
use platform::shutdown::Tasks;
use platform::work::{RequestKey, Work};
use platform::{Error, Kind};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Outcome;
use super::batch::{self, BatchError, Commit, CommitNow, Order, Outcomes};

/// How often a batch is tried while the database is out of reach.
const TRIES: u32 = 3;
/// Pause before the second try; the third waits four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Once this has passed, a batch is hardly tried again: those who wait behind it have waited long enough.
const LONGEST_TRY: Duration = Duration::from_secs(3);
/// We answer this much before the caller stops listening, so that the answer still arrives.
const HEAD_START: Duration = Duration::from_millis(10);

/// How much the poster takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PosterLimits {
    /// Most commands in one transaction.
    pub(crate) batch: usize,
    /// Most commands that wait.
    pub(crate) queue: usize,
    /// How long one try of a batch may take: a connection that nobody answers on would hold up everybody.
    pub(crate) patience: Duration,
}

/// Hands orders to the poster's task. Cheap to clone; the task ends when the last clone is gone and the queue is empty.
#[derive(Debug, Clone)]
pub(crate) struct Poster {
    queue: mpsc::Sender<Job>,
    under_way: UnderWay,
}

#[derive(Debug)]
struct Job {
    order: Order,
    reply: oneshot::Sender<Result<Outcome, Error>>,
    /// Whether a COMMIT with it went unanswered.
    commit_lost: bool,
    /// Whether it was decided for the first time then, so that nobody was told yet.
    untold: bool,
}

impl Job {
    /// Tells the caller; one who is gone finds the outcome under the key.
    fn tell(self, mut outcome: Result<Outcome, Error>) {
        if let Ok(outcome) = &mut outcome {
            outcome.replayed &= !self.untold;
        }
        let _ = self.reply.send(outcome);
    }

    /// Tells the caller that it came to nothing, or that nobody knows.
    fn give_up(self, error: &Error) {
        let error = match self.commit_lost {
            true => outcome_unknown(),
            false => error.clone(),
        };
        let _ = self.reply.send(Err(error));
    }
}

impl Poster {
    /// Starts the task.
    pub(crate) fn start(work: Work, limits: PosterLimits, tasks: &Tasks) -> Self {
        Self::start_with(work, limits, Arc::new(CommitNow), tasks)
    }

    /// Starts the task; it commits in its own way.
    pub(super) fn start_with(
        work: Work,
        limits: PosterLimits,
        commit: Arc<dyn Commit>,
        tasks: &Tasks,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(limits.queue.max(1));
        let desk = Desk {
            work,
            commit,
            limits,
        };
        tasks.spawn_critical("wallet-poster", run(desk, waiting));
        Self {
            queue,
            under_way: UnderWay::default(),
        }
    }

    /// Posts an order and waits for its outcome, no longer than until `deadline`.
    ///
    /// # Errors
    /// `overloaded` when too many wait already and `account_not_ready`: nothing was done. `outcome_unknown` when
    /// the deadline came first or the database was lost at the wrong moment: the same key is safe. `request_in_progress`
    /// when the deadline of a duplicate came before the end of the first. Else a fault.
    pub(super) async fn post(&self, order: Order, deadline: Instant) -> Result<Outcome, Error> {
        let place = self.under_way.enter(order.key());
        let (reply, outcome) = oneshot::channel();
        let job = Job {
            order,
            reply,
            commit_lost: false,
            untold: false,
        };
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::unavailable("overloaded", "too many payments wait already")
                    .with_retry_after(Duration::from_secs(1))
            }
            TrySendError::Closed(_) => Error::unavailable("shutting_down", "the service ends")
                .with_retry_after(Duration::from_secs(1)),
        })?;
        let patience = deadline.checked_sub(HEAD_START).unwrap_or(deadline);
        match tokio::time::timeout_at(patience, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Err(_) if place.is_duplicate => Err(idempotency::in_progress()),
            Ok(Err(_)) | Err(_) => Err(outcome_unknown()),
        }
    }
}

/// How many callers wait for each key.
#[derive(Debug, Clone, Default)]
struct UnderWay(Arc<Mutex<HashMap<RequestKey, usize>>>);

/// One caller's place among those who wait for a key, until dropped.
struct Place {
    key: RequestKey,
    is_duplicate: bool,
    under_way: UnderWay,
}

impl UnderWay {
    fn enter(&self, key: &RequestKey) -> Place {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = keys.entry(key.clone()).or_insert(0);
        *waiting += 1;
        Place {
            key: key.clone(),
            is_duplicate: *waiting > 1,
            under_way: self.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut keys = self
            .under_way
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = keys.get_mut(&self.key) {
            *waiting -= 1;
            if *waiting == 0 {
                keys.remove(&self.key);
            }
        }
    }
}

/// What the task needs for every batch.
struct Desk {
    work: Work,
    commit: Arc<dyn Commit>,
    limits: PosterLimits,
}

async fn run(desk: Desk, mut waiting: mpsc::Receiver<Job>) {
    let most = desk.limits.batch.max(1);
    let mut jobs = Vec::with_capacity(most);
    while waiting.recv_many(&mut jobs, most).await > 0 {
        // Nobody waits for these any more and nothing was done for them yet.
        jobs.retain(|job| !job.reply.is_closed());
        desk.settle(std::mem::take(&mut jobs)).await;
    }
}

impl Desk {
    /// Commits jobs together; when that fails, half of them, until the culprit stands alone.
    async fn settle(&self, jobs: Vec<Job>) {
        let mut parts = vec![jobs];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.attempt(&mut part).await {
                Ok(outcomes) => {
                    for (job, outcome) in part.into_iter().zip(outcomes) {
                        job.tell(outcome);
                    }
                }
                Err(error) if part.len() == 1 || error.kind() == Kind::Unavailable => {
                    for job in part {
                        job.give_up(&error);
                    }
                }
                Err(error) => {
                    tracing::warn!(jobs = part.len(), %error, "a batch failed and is halved");
                    let second = part.split_off(part.len() / 2);
                    parts.push(second);
                    parts.push(part);
                }
            }
        }
    }

    /// One transaction for all of `jobs`. Once a COMMIT went unanswered, for whatever reason, the batch is simply tried
    /// again: keys that were committed give their answers, the others are done now.
    async fn attempt(&self, jobs: &mut [Job]) -> Result<Outcomes, Error> {
        let (mut pause, start) = (FIRST_PAUSE, Instant::now());
        for nth in 1..=TRIES {
            let orders: Vec<&Order> = jobs.iter().map(|job| &job.order).collect();
            let patience = self.limits.patience;
            let (error, commit_lost) =
                match batch::post(&self.work, &*self.commit, &orders, patience).await {
                    Ok(outcomes) => return Ok(outcomes),
                    Err(BatchError::RolledBack(error)) => (error, false),
                    Err(BatchError::CommitFailed { error, untold }) => {
                        for (job, untold) in jobs.iter_mut().zip(untold) {
                            job.commit_lost = true;
                            job.untold |= untold.is_ok_and(|outcome| !outcome.replayed);
                        }
                        (error, true)
                    }
                };
            if !commit_lost && error.kind() != Kind::Unavailable {
                return Err(error);
            }
            // A COMMIT that took long is asked after once, because then the outcome may be known.
            let too_late = start.elapsed() > LONGEST_TRY && !(commit_lost && nth == 1);
            if nth == TRIES || too_late {
                tracing::error!(jobs = jobs.len(), commit_lost, %error, "a batch was given up");
                return Err(if commit_lost {
                    outcome_unknown()
                } else {
                    error
                });
            }
            tracing::warn!(jobs = jobs.len(), commit_lost, %error, "a batch is tried again");
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
        Err(outcome_unknown())
    }
}
