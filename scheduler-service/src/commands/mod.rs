//! What the scheduler does, one use case a file.

mod cancel_sms_schedule;
mod claim_messages;
mod create_sms_schedule;
mod follow_messages;
mod in_flight;
mod lease;
mod record_outcomes;
mod staging;
mod sweep_uploads;
mod upload_sms_recipients;

use std::sync::Arc;

use platform::principal::{Principal, Role};
use platform::work::{UnitOfWork, Work};
use platform::{Error, time};
use tokio::sync::Notify;
use uuid::Uuid;

pub(crate) use cancel_sms_schedule::cancel_sms_schedule;
pub(crate) use claim_messages::{Batch, Parcel, claim_messages, hold, take_over};
pub(crate) use create_sms_schedule::{CreateSmsSchedule, MAX_RECIPIENTS, create_sms_schedule};
pub(crate) use follow_messages::follow_messages;
pub(crate) use in_flight::InFlight;
pub(crate) use lease::Lease;
pub(crate) use record_outcomes::{Outcome, Verdict, record_outcomes};
pub(crate) use sweep_uploads::sweep_uploads;
pub(crate) use upload_sms_recipients::{Piece, upload_sms_recipients};

use crate::config::SchedulerConfig;
use crate::domain::{Numbering, Schedule};
use crate::providers::Providers;
use crate::{events, storage};

/// Most rows of messages written in one transaction, so that nobody waits long for the one writer of SQLite.
const MAX_ROWS: usize = 1000;

/// Most schedules that one transaction locks, so that nobody waits long for one of them.
const MAX_SCHEDULES: usize = 64;

/// Wakes the workers. A wake-up before the wait is not lost.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// There may be something to claim.
    pub(crate) claim: Notify,
    /// There may be something to ask a provider for.
    pub(crate) follow: Notify,
    /// There may be something to sweep.
    pub(crate) sweep: Notify,
}

/// What the use cases work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sms {
    pub(crate) work: Work,
    pub(crate) config: Arc<SchedulerConfig>,
    pub(crate) numbering: Numbering,
    pub(crate) providers: Providers,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) in_flight: InFlight,
}

impl Sms {
    /// Wakes one worker after the unit's commit.
    fn wake(&self, unit: &mut UnitOfWork, which: fn(&Wakes) -> &Notify) {
        let wakes = Arc::clone(&self.wakes);
        unit.on_commit(move || which(&wakes).notify_one());
    }

    /// Most recipients that the user may put into schedules a day; `None` without a limit.
    fn daily_limit(&self, user: &Principal) -> Option<u64> {
        let limit = if user.role > Role::User {
            self.config.daily_recipients_staff
        } else {
            self.config.daily_recipients
        };
        (limit > 0).then_some(limit)
    }
}

/// Writes a schedule that the unit has locked; ends it, and tells so, when its last message is final.
async fn save_and_settle(unit: &mut UnitOfWork, schedule: &mut Schedule) -> Result<(), Error> {
    let now = unit.now();
    if schedule.settle(now) {
        events::schedule_finished(unit, schedule);
        let duration_ms = schedule.started_at.map_or(0, |started| {
            (time::to_micros(now) - time::to_micros(started)) / 1000
        });
        tracing::info!(
            schedule.id = %schedule.id,
            schedule.status = schedule.status.as_str(),
            messages = schedule.counts.total(),
            duration_ms,
            "SMS schedule ended"
        );
    }
    storage::schedules::save(unit.tx(), schedule).await
}

/// Puts recipients on the user's quota of a day. Tells whether there was room; if not, nothing has changed.
async fn charge(
    unit: &UnitOfWork,
    user_id: Uuid,
    day: i64,
    recipients: i64,
    limit: Option<u64>,
) -> Result<bool, Error> {
    let sum = storage::quotas::add(unit.tx(), user_id, day, recipients).await?;
    let fits = limit.is_none_or(|limit| u64::try_from(sum).is_ok_and(|sum| sum <= limit));
    if !fits {
        storage::quotas::add(unit.tx(), user_id, day, -recipients).await?;
    }
    Ok(fits)
}

/// A count of rows as it stands in the database.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
