//! Claims messages whose time has come: the step after which they may have been sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use platform::Error;
use platform::work::UnitOfWork;
use sea_orm::DbBackend;
use uuid::Uuid;

use super::{Lease, MAX_ROWS, MAX_SCHEDULES, Sms, save_and_settle, signed};
use crate::domain::{MessageState, Schedule, Status};
use crate::providers::Submission;
use crate::storage::{self, claims::Terms};

/// Fewest messages of a schedule's turn, if it has them. Where many wait, those that get nothing are the first of the next
/// transaction.
const LEAST_SHARE: u64 = 20;
/// When a schedule is looked at again whose provider is not configured any more.
const MISSING_PROVIDER_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// A claimed message on its way to the provider.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) set_id: Uuid,
    pub(crate) attempt: i64,
    pub(crate) submission: Submission,
}

/// Claimed messages for one provider.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) provider: String,
    pub(crate) lease: Lease,
    pub(crate) parcels: Vec<Parcel>,
}

/// Claims the next messages of the schedules that wait longest, each its share, so that a long list does not hold up
/// the short ones. Also strikes queued messages of cancelled schedules. `None` when nothing is due.
pub(crate) async fn claim_messages(sms: &Sms) -> Result<Option<Vec<Batch>>, Error> {
    // A look at what is committed costs no write lock.
    let db = sms.work.db();
    let first = storage::schedules::first_due(db.reader(), sms.work.now()).await?;
    let Some(first) = first else {
        return Ok(None);
    };
    let mut unit = sms.work.begin().await?;
    let most = MAX_SCHEDULES as u64;
    let mut schedules = storage::schedules::lock_due(unit.tx(), unit.now(), most).await?;
    if schedules.is_empty() {
        // Other replicas serve all that is due. To wait for one of them is better than to ask again and again.
        schedules = storage::schedules::lock(unit.tx(), first).await?;
    }
    // The wait may have been long.
    let lease = Lease::begin(sms.work.clock(), &sms.config.sending);
    let terms = Terms {
        now: lease.at(),
        asked_from: lease.asked_from(),
        pause: sms.config.sending.lease(),
        deadline: sms.config.sending.deadline(),
    };
    schedules.retain(|schedule| schedule.claim_at.is_some_and(|at| at <= terms.now));
    let mut batches: BTreeMap<String, Vec<Parcel>> = BTreeMap::new();
    let mut room = u64::from(sms.config.sending.batch_size);
    let mut rows = MAX_ROWS as u64;
    let mut left = schedules.len() as u64;
    for schedule in &mut schedules {
        let fair = room.div_ceil(left.max(1)).max(LEAST_SHARE);
        let share = fair.min(room).min(rows);
        left -= 1;
        if schedule.status == Status::Cancelled {
            // Where no rows are left, the schedule stays due and is among the first of the next transaction.
            if rows > 0 {
                rows -= strike(&mut unit, schedule, rows).await?;
            }
        } else if sms.providers.get(&schedule.provider).is_none() {
            tracing::error!(
                schedule.id = %schedule.id,
                provider = schedule.provider,
                "the provider of a schedule is not configured"
            );
            schedule.claim_at = Some(terms.now + MISSING_PROVIDER_PAUSE);
            storage::schedules::save(unit.tx(), schedule).await?;
        } else if share > 0 {
            let parcels = claim_share(&mut unit, schedule, share, terms).await?;
            room -= (parcels.len() as u64).min(room);
            rows -= (parcels.len() as u64).min(rows);
            batches
                .entry(schedule.provider.clone())
                .or_default()
                .extend(parcels);
        }
    }
    unit.commit().await?;
    let batches = batches
        .into_iter()
        .filter(|(_, parcels)| !parcels.is_empty())
        .map(|(provider, parcels)| Batch {
            provider,
            lease,
            parcels,
        })
        .collect();
    Ok(Some(batches))
}

/// Makes sure, right before they are handed over, that messages of a batch are still this replica's; gives those that are,
/// and their lease.
pub(crate) async fn hold(
    sms: &Sms,
    lease: Lease,
    parcels: &[Parcel],
) -> Result<(Lease, Vec<Parcel>), Error> {
    if lease.is_young(sms.work.now()) {
        return Ok((lease, parcels.to_vec()));
    }
    let unit = sms.work.begin().await?;
    let renewed = Lease::begin(sms.work.clock(), &sms.config.sending);
    let ids: Vec<Uuid> = parcels
        .iter()
        .map(|parcel| parcel.submission.reference)
        .collect();
    let (from, to) = (lease.asked_from(), renewed.asked_from());
    let held = storage::claims::renew(unit.tx(), &ids, from, to).await?;
    unit.commit().await?;
    let mut parcels = parcels.to_vec();
    parcels.retain(|parcel| held.contains(&parcel.submission.reference));
    Ok((renewed, parcels))
}

async fn claim_share(
    unit: &mut UnitOfWork,
    schedule: &mut Schedule,
    share: u64,
    terms: Terms,
) -> Result<Vec<Parcel>, Error> {
    let claimed = storage::claims::claim(unit.tx(), schedule.set_id, share, terms).await?;
    if claimed.is_empty() {
        // Counts are exact, so this cannot be; if it is, it must not turn into a loop.
        tracing::error!(schedule.id = %schedule.id, "a schedule counts queued messages that are not there");
        schedule.claim_at = None;
    } else {
        schedule.claimed(signed(claimed.len() as u64), terms.now);
    }
    storage::schedules::save(unit.tx(), schedule).await?;
    let text: Arc<str> = schedule.message.as_str().into();
    let set_id = schedule.set_id;
    let parcels = claimed.into_iter().map(|message| Parcel {
        set_id,
        attempt: message.attempt,
        submission: Submission {
            reference: message.id,
            to: message.phone,
            text: text.clone(),
        },
    });
    Ok(parcels.collect())
}

/// Strikes up to `most` queued messages of a cancelled schedule. Tells how many those were.
async fn strike(unit: &mut UnitOfWork, schedule: &mut Schedule, most: u64) -> Result<u64, Error> {
    let now = unit.now();
    let struck = storage::claims::cancel_queued(unit.tx(), schedule.set_id, most, now).await?;
    schedule.moved(
        MessageState::Queued,
        MessageState::Cancelled,
        signed(struck),
        now,
    );
    if struck == 0 {
        schedule.claim_at = None;
    }
    save_and_settle(unit, schedule).await?;
    Ok(struck.min(most))
}

/// Takes over what an earlier life of this process had claimed. Only SQLite, whose file has one process, allows to say
/// that whoever holds a lease is dead; a call of it may still be under way for as long as calls may take.
pub(crate) async fn take_over(sms: &Sms) -> Result<(), Error> {
    if sms.work.db().backend() != DbBackend::Sqlite {
        return Ok(());
    }
    let unit = sms.work.begin().await?;
    let at = unit.now() + sms.config.sending.call_timeout();
    let messages = storage::claims::shorten_leases(unit.tx(), at).await?;
    unit.commit().await?;
    if messages > 0 {
        tracing::info!(
            messages,
            "messages were claimed when the last run ended; their provider will be asked"
        );
    }
    Ok(())
}
