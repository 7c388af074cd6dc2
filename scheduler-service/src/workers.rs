//! The background tasks. Each sleeps until something is due or it is woken. What other replicas commit wakes nobody here, so
//! on PostgreSQL each looks once a second too.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use platform::{Error, Tasks};
use sea_orm::DbBackend;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::commands::{
    Batch, Lease, Outcome, Parcel, Sms, Verdict, claim_messages, follow_messages, hold,
    record_outcomes, sweep_uploads, take_over,
};
use crate::domain::MessageState;
use crate::providers::{SmsProvider, Submission, Submitted};
use crate::storage;

/// Pause after a failure of the database.
const FAILURE_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// Longest sleep beside other replicas.
const REPLICA_LOOK: SignedDuration = SignedDuration::from_secs(1);
/// Pause while other replicas have locked all that is due.
const LOCKED_PAUSE: Duration = Duration::from_millis(20);
/// How often the sweeper looks for uploads that were left behind.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// Times that an answer of a provider is tried to be recorded before it is left to a later look-up.
const RECORD_TRIES: u32 = 6;

/// Starts the workers.
pub(crate) fn spawn(sms: &Sms, tasks: &Tasks) {
    let (claiming, senders) = (sms.clone(), tasks.clone());
    tasks.spawn_critical("sms-dispatcher", async move {
        dispatch(&claiming, &senders).await
    });
    let (following, token) = (sms.clone(), tasks.token());
    tasks.spawn_critical(
        "sms-tracker",
        async move { track(&following, &token).await },
    );
    let (sweeping, token) = (sms.clone(), tasks.token());
    tasks.spawn("sms-sweeper", async move { sweep(&sweeping, &token).await });
}

/// Claims what is due and has it handed to the providers, a bounded number of claims at a time.
///
/// Each claim is sent by a task of its own: were it polled from here, it could hold the one writing connection that the
/// next claim waits for.
async fn dispatch(sms: &Sms, tasks: &Tasks) {
    if let Err(error) = take_over(sms).await {
        tracing::warn!(%error, "leases of the last run stay until they end");
    }
    let token = tasks.token();
    let slots = Arc::new(Semaphore::new(sms.config.sending.concurrency as usize));
    loop {
        let slot = tokio::select! {
            biased;
            () = token.cancelled() => return,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let wait_until = match claim_messages(sms).await {
            Ok(Some(batches)) => {
                let sms = sms.clone();
                tasks.spawn("sms-sender", async move {
                    join_all(batches.into_iter().map(|batch| send(&sms, batch))).await;
                    drop(slot);
                });
                continue;
            }
            Ok(None) => earlier(sms.work.now() + idle(sms), next_claim(sms).await),
            Err(error) => {
                tracing::warn!(%error, "messages could not be claimed");
                sms.work.now() + FAILURE_PAUSE
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            () = wake(sms, &sms.wakes.claim, wait_until) => {}
        }
    }
}

async fn next_claim(sms: &Sms) -> Result<Option<Timestamp>, Error> {
    storage::schedules::next_due(sms.work.db().reader()).await
}

/// Hands a batch to its provider and records what it said. Nothing is assumed where it said nothing.
async fn send(sms: &Sms, batch: Batch) {
    let Some(provider) = sms.providers.get(&batch.provider) else {
        return;
    };
    for parcels in batch
        .parcels
        .chunks(provider.capabilities().max_submit.max(1))
    {
        let carried = parcels.iter().map(|parcel| parcel.submission.reference);
        // Until the answer is recorded, or the call is given up.
        let _flight = sms.in_flight.enter(carried.collect());
        let (lease, parcels) = match hold(sms, batch.lease, parcels).await {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "a lease could not be renewed; the provider will be asked");
                continue;
            }
        };
        if !parcels.is_empty() {
            submit(sms, provider, lease, parcels).await;
        }
    }
}

async fn submit(sms: &Sms, provider: &Arc<dyn SmsProvider>, lease: Lease, parcels: Vec<Parcel>) {
    let submissions: Vec<Submission> = parcels
        .iter()
        .map(|parcel| parcel.submission.clone())
        .collect();
    let (clock, timeout) = (sms.work.clock(), sms.config.sending.call_timeout());
    let call = provider.submit(&submissions);
    let Some(answers) = lease.carry(clock, timeout, call).await else {
        tracing::warn!(
            provider = provider.name(),
            messages = submissions.len(),
            "a provider did not answer in time; it will be asked what it has"
        );
        return;
    };
    let outcomes: Vec<Outcome> = parcels
        .iter()
        .zip(answers)
        .filter_map(|(parcel, answer)| {
            Some(Outcome {
                id: parcel.submission.reference,
                set_id: parcel.set_id,
                attempt: parcel.attempt,
                verdict: verdict(answer)?,
            })
        })
        .collect();
    record(sms, outcomes).await;
}

fn verdict(answer: Submitted) -> Option<Verdict> {
    match answer {
        Submitted::Accepted {
            provider_message_id,
        } => Some(Verdict::Taken {
            provider_message_id,
        }),
        Submitted::Rejected { reason } => Some(Verdict::Became {
            state: MessageState::Rejectd,
            error: reason,
        }),
        Submitted::Unknown => None,
    }
}

/// Records outcomes, patiently: what is lost here has to be asked for again.
async fn record(sms: &Sms, outcomes: Vec<Outcome>) {
    let mut pause = Duration::from_millis(100);
    for left in (0..RECORD_TRIES).rev() {
        match record_outcomes(sms, outcomes.clone()).await {
            Ok(()) => return,
            Err(error) if left == 0 => {
                tracing::error!(%error, "answers of a provider could not be recorded; it will be asked again");
            }
            Err(error) => {
                tracing::warn!(%error, "answers of a provider could not be recorded yet");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

/// Asks the providers for states until every message is final.
async fn track(sms: &Sms, token: &CancellationToken) {
    while !token.is_cancelled() {
        let wait_until = match follow_messages(sms).await {
            Ok(0) => {
                let next = storage::claims::next_due(sms.work.db().reader()).await;
                let now = sms.work.now();
                if matches!(next, Ok(Some(at)) if at <= now) {
                    tokio::time::sleep(LOCKED_PAUSE).await;
                }
                earlier(now + idle(sms), next)
            }
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%error, "messages could not be followed");
                sms.work.now() + FAILURE_PAUSE
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = wake(sms, &sms.wakes.follow, wait_until) => {}
        }
    }
}

/// Removes what no schedule names.
async fn sweep(sms: &Sms, token: &CancellationToken) {
    while !token.is_cancelled() {
        let wait_until = match sweep_uploads(sms).await {
            Ok(true) => continue,
            Ok(false) => sms.work.now() + SWEEP_EVERY,
            Err(error) => {
                tracing::warn!(%error, "uploads could not be swept");
                sms.work.now() + FAILURE_PAUSE
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = wake(sms, &sms.wakes.sweep, wait_until) => {}
        }
    }
}

/// Longest sleep of a worker that nobody wakes.
fn idle(sms: &Sms) -> SignedDuration {
    let idle = SignedDuration::try_from(sms.config.sending.idle()).unwrap_or(REPLICA_LOOK);
    match sms.work.db().backend() {
        DbBackend::Sqlite => idle,
        _ => idle.min(REPLICA_LOOK),
    }
}

/// Returns when woken, or at `until`.
async fn wake(sms: &Sms, notify: &Notify, until: Timestamp) {
    tokio::select! {
        () = notify.notified() => {}
        () = sms.work.clock().sleep_until(until) => {}
    }
}

/// The earlier of the net and what is known to come. What could not be read is tried again soon.
fn earlier(net: Timestamp, next: Result<Option<Timestamp>, Error>) -> Timestamp {
    match next {
        Ok(next) => next.map_or(net, |at| at.min(net)),
        Err(error) => {
            tracing::warn!(%error, "the next time could not be read");
            net
        }
    }
}
