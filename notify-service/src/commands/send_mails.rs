//! Send the mails that are due, as long as the service runs.
//!
//! A replica claims a batch, renews its claims while it works, and gives back what it has not begun when it stops. One that
//! is killed delays its mails by a lease at most. The clocks of replicas must agree much better than that.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use platform::{Error, telemetry};
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::send_mail::Mailer;
use crate::storage::entities::mails::Model;
use crate::storage::mails::{self, Claim, Outcome};

/// Mails claimed in one go.
const BATCH: u64 = 32;
/// The database is looked at at least this often.
const IDLE: Duration = Duration::from_secs(30);
/// Pause after the database failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause when another replica was about to claim what was due.
const BESIDE: Duration = Duration::from_millis(50);

/// What this replica has claimed.
#[derive(Default)]
struct Hand {
    /// Not begun yet, each with the end of its claim.
    waiting: VecDeque<(Model, Timestamp)>,
    /// Being sent.
    flying: JoinSet<Option<Timestamp>>,
    claims: HashMap<Id, Claim>,
}

impl Hand {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flying.is_empty()
    }

    fn claims(&self) -> Vec<Claim> {
        let waiting = self.waiting.iter().map(|(mail, _)| claim(mail));
        waiting.chain(self.claims.values().copied()).collect()
    }

    /// Notes that the claims in `held` hold until `until`, and lets go of what waits under any other: another replica has
    /// it by now, and may have sent it.
    fn keep(&mut self, held: &HashSet<Claim>, until: Timestamp) {
        self.waiting.retain_mut(|(mail, end)| {
            *end = until;
            let kept = held.contains(&claim(mail));
            if !kept {
                tracing::warn!(mail.id = %mail.id, "the claim of a mail has passed on");
            }
            kept
        });
    }
}

fn claim(mail: &Model) -> Claim {
    (mail.id, mail.attempts)
}

/// Sends what is due until `stop`: looks when it is woken, when a mail is due again, and now and then.
pub(crate) async fn run(mailer: Arc<Mailer>, wake: Arc<Notify>, stop: CancellationToken) {
    let clock = Arc::clone(mailer.work.clock());
    let mut hand = Hand::default();
    let mut renewal = renewal(&mailer);
    let mut look_at = clock.now();
    while !stop.is_cancelled() {
        let room = hand.waiting.len() < mailer.policy.at_once;
        if room && look_at <= clock.now() {
            look_at = look(&mailer, &mut hand).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "mails could not be claimed");
                clock.now() + PAUSE
            });
        }
        if stop.is_cancelled() {
            // Told to end while it looked: what is begun now might outlast the process.
            break;
        }
        start(&mailer, &mut hand);
        let room = hand.waiting.len() < mailer.policy.at_once;
        tokio::select! {
            () = stop.cancelled() => break,
            () = wake.notified() => look_at = clock.now(),
            () = clock.sleep_until(look_at), if room => {}
            Some(landed) = hand.flying.join_next_with_id() => {
                let again = land(&mailer, &mut hand, landed).await;
                look_at = again.map_or(look_at, |at| at.min(look_at));
            }
            _ = renewal.tick() => renew(&mailer, &mut hand).await,
        }
    }
    end(&mailer, hand).await;
}

fn renewal(mailer: &Mailer) -> Interval {
    let every = mailer.policy.lease / 4;
    let mut renewal = interval_at(Instant::now() + every, every);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewal
}

/// Claims what is due. Returns when to look again.
async fn look(mailer: &Mailer, hand: &mut Hand) -> Result<Timestamp, Error> {
    let latest = mailer.work.now() + IDLE;
    // A look that costs no write lock: most of the time nothing is due.
    let next = mails::next_due(mailer.work.db().reader()).await?;
    let due = next.unwrap_or(latest).min(latest);
    if due > mailer.work.now() {
        if hand.is_empty() {
            mailer.channel.rest().await;
        }
        return Ok(due);
    }
    let unit = mailer.work.begin().await?;
    let (now, until) = (unit.now(), unit.now() + mailer.policy.lease);
    // Even when a claim of ours has run out, what we are sending or have before us is not begun a second time.
    let ours = hand.claims().into_iter().map(|(id, _)| id).collect();
    let claimed = mails::claim(unit.tx(), now, until, BATCH, ours).await?;
    unit.commit().await?;
    let again = if claimed.is_empty() {
        now + BESIDE
    } else {
        now
    };
    hand.waiting
        .extend(claimed.into_iter().map(|mail| (mail, until)));
    Ok(again)
}

fn start(mailer: &Arc<Mailer>, hand: &mut Hand) {
    while hand.flying.len() < mailer.policy.at_once {
        let Some((mail, until)) = hand.waiting.pop_front() else {
            return;
        };
        if until <= mailer.work.now() {
            // The database was away for so long that another replica may have the mail by now.
            tracing::warn!(mail.id = %mail.id, "the claim of a mail has run out");
            continue;
        }
        let claim = claim(&mail);
        let span = tracing::info_span!("notify.send_mail", mail.id = %mail.id, mail.template = %mail.template);
        telemetry::set_parent(&span, &mail.traceparent);
        let mailer = Arc::clone(mailer);
        let task = async move { mailer.send(mail).await };
        let task = hand.flying.spawn(task.instrument(span));
        hand.claims.insert(task.id(), claim);
    }
}

/// What became of a mail. Returns when it is to be tried again.
async fn land(
    mailer: &Mailer,
    hand: &mut Hand,
    landed: Result<(Id, Option<Timestamp>), JoinError>,
) -> Option<Timestamp> {
    let error = match landed {
        Ok((id, again)) => {
            hand.claims.remove(&id);
            return again;
        }
        Err(error) => error,
    };
    let claim = hand.claims.remove(&error.id())?;
    if error.is_panic() {
        // It would do so again each time.
        tracing::error!(mail.id = %claim.0, "a mail could not be made");
        let error = "making it panicked".to_owned();
        mailer.note(claim, &Outcome::Failed { error }).await;
    }
    None
}

/// Makes our claims hold on, so that no other replica takes up what is being sent.
async fn renew(mailer: &Mailer, hand: &mut Hand) {
    if hand.is_empty() {
        return;
    }
    match extend(mailer, hand.claims()).await {
        Ok((held, until)) => hand.keep(&held, until),
        Err(error) => tracing::warn!(%error, "claims of mails could not be renewed"),
    }
}

/// Which of `claims` still are ours, and until when now.
async fn extend(mailer: &Mailer, claims: Vec<Claim>) -> Result<(HashSet<Claim>, Timestamp), Error> {
    let unit = mailer.work.begin().await?;
    let until = unit.now() + mailer.policy.lease;
    let held = mails::extend(unit.tx(), claims, until).await?;
    unit.commit().await?;
    Ok((held, until))
}

/// Gives back what was not begun and finishes the rest.
async fn end(mailer: &Mailer, mut hand: Hand) {
    let waiting = std::mem::take(&mut hand.waiting);
    if !waiting.is_empty() {
        let claims = waiting.iter().map(|(mail, _)| claim(mail)).collect();
        if let Err(error) = release(mailer, claims).await {
            tracing::warn!(%error, "claims of mails could not be given back; they run out");
        }
    }
    let mut renewal = renewal(mailer);
    while !hand.flying.is_empty() {
        tokio::select! {
            Some(landed) = hand.flying.join_next_with_id() => {
                land(mailer, &mut hand, landed).await;
            }
            _ = renewal.tick() => renew(mailer, &mut hand).await,
        }
    }
    mailer.channel.rest().await;
}

async fn release(mailer: &Mailer, claims: Vec<Claim>) -> Result<(), Error> {
    let unit = mailer.work.begin().await?;
    mails::release(unit.tx(), claims, unit.now()).await?;
    unit.commit().await
}

#[cfg(test)]
mod tests;
