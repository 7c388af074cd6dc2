//! Remove what need not be kept any more, in bounded steps. Every replica does it: what one is at, the others leave alone
//! or find done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use platform::work::Work;
use platform::{Error, time};
use uuid::Uuid;

use crate::storage::{acknowledgements, mails, notifications, streams};

/// Rows removed in one transaction.
const STEP: i64 = 1000;
/// Users looked at in one round.
const USERS: u64 = 100;

/// What is kept.
#[derive(Debug, Clone)]
pub(crate) struct Retention {
    /// Age after which events, acknowledgements and ended mails go.
    pub(crate) age: Duration,
    /// Most events of one user.
    pub(crate) events_per_user: i64,
    /// Age after which notifications go, read or not.
    pub(crate) inbox_age: Duration,
    /// Most notifications of one user; the oldest go.
    pub(crate) entries_per_user: i64,
}

/// One round. Returns whether there may be more to do.
pub(crate) async fn trim(work: &Work, retention: &Retention) -> Result<bool, Error> {
    let cutoff = work.now() - retention.age;
    let events = trim_old_events(work, retention, time::to_micros(cutoff)).await?;
    let surplus = trim_surplus_events(work, retention).await?;
    let inboxes = trim_inboxes(work, retention).await?;
    let devices = forget_stale_devices(work, time::to_micros(cutoff)).await?;
    let mails = trim_mails(work, cutoff).await?;
    Ok(events || surplus || inboxes || devices || mails)
}

async fn trim_mails(work: &Work, cutoff: Timestamp) -> Result<bool, Error> {
    let full = STEP.unsigned_abs();
    let unit = work.begin().await?;
    let secrets = mails::drop_expired_secrets(unit.tx(), unit.now(), full).await?;
    let ended = mails::remove_ended(unit.tx(), cutoff, full).await?;
    unit.commit().await?;
    Ok(secrets == full || ended == full)
}

async fn trim_old_events(work: &Work, retention: &Retention, cutoff: i64) -> Result<bool, Error> {
    let expired = streams::expired(work.db().reader(), cutoff, STEP.unsigned_abs()).await?;
    let full = expired.len() as u64 == STEP.unsigned_abs();
    let mut newest: BTreeMap<Uuid, i64> = BTreeMap::new();
    for (user_id, seq) in expired {
        let last = newest.entry(user_id).or_insert(seq);
        *last = seq.max(*last);
    }
    for (user_id, expired) in newest {
        trim_one(work, retention, user_id, expired).await?;
    }
    Ok(full)
}

async fn trim_surplus_events(work: &Work, retention: &Retention) -> Result<bool, Error> {
    let users = streams::too_long(work.db().reader(), retention.events_per_user, USERS).await?;
    let more = !users.is_empty();
    for user_id in users {
        trim_one(work, retention, user_id, 0).await?;
    }
    Ok(more)
}

/// One user's stream in a transaction of its own, which locks no other.
async fn trim_one(
    work: &Work,
    retention: &Retention,
    user_id: Uuid,
    expired: i64,
) -> Result<(), Error> {
    let unit = work.begin().await?;
    let Some(row) = streams::lock(unit.tx(), user_id).await? else {
        return Ok(());
    };
    let extent = streams::extent(&row);
    if let Some(first) = extent.trimmed(retention.events_per_user, expired, STEP) {
        streams::trim(unit.tx(), user_id, first).await?;
        unit.commit().await?;
    }
    Ok(())
}

async fn trim_inboxes(work: &Work, retention: &Retention) -> Result<bool, Error> {
    let cutoff = time::to_micros(work.now() - retention.inbox_age);
    let reader = work.db().reader();
    let old = notifications::owners_of_old(reader, cutoff, STEP.unsigned_abs()).await?;
    let full = old.len() as u64 == STEP.unsigned_abs();
    for user_id in BTreeSet::from_iter(old) {
        trim_inbox(work, user_id, |_| STEP, Some(cutoff)).await?;
    }
    let crowded = streams::too_full(reader, retention.entries_per_user, USERS).await?;
    let more = full || !crowded.is_empty();
    for user_id in crowded {
        let surplus = |entries: i64| (entries - retention.entries_per_user).clamp(0, STEP);
        trim_inbox(work, user_id, surplus, None).await?;
    }
    Ok(more)
}

/// Removes the oldest entries of one inbox, as many as `surplus` says of the number there is, in a transaction of its own.
async fn trim_inbox(
    work: &Work,
    user_id: Uuid,
    surplus: impl FnOnce(i64) -> i64,
    cutoff: Option<i64>,
) -> Result<(), Error> {
    let unit = work.begin().await?;
    let Some(row) = streams::lock(unit.tx(), user_id).await? else {
        return Ok(());
    };
    let surplus = surplus(row.entries).unsigned_abs();
    let oldest = notifications::oldest(unit.tx(), user_id, cutoff, surplus).await?;
    let unread = oldest.iter().filter(|(_, read)| !read).count();
    let unread = i64::try_from(unread).map_err(Error::internal)?;
    let ids: Vec<Uuid> = oldest.into_iter().map(|(id, _)| id).collect();
    let gone = notifications::delete_all(unit.tx(), user_id, ids).await?;
    let gone = i64::try_from(gone).map_err(Error::internal)?;
    streams::count(unit.tx(), user_id, -unread, -gone).await?;
    unit.commit().await
}

async fn forget_stale_devices(work: &Work, cutoff: i64) -> Result<bool, Error> {
    if !acknowledgements::any_stale(work.db().reader(), cutoff).await? {
        return Ok(false);
    }
    let unit = work.begin().await?;
    let full = STEP.unsigned_abs();
    let forgotten = acknowledgements::forget_stale(unit.tx(), cutoff, full).await?;
    unit.commit().await?;
    Ok(forgotten == full)
}
