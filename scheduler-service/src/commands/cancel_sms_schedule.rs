//! Stops a schedule.

use platform::Error;
use uuid::Uuid;

use super::{MAX_ROWS, Sms, save_and_settle, signed};
use crate::domain::{MessageState, Schedule};
use crate::storage;

/// Stops the user's schedule: from now on no message of it is claimed. Those that the provider may have run to their end.
/// Stopping it twice is the same as once.
///
/// # Errors
/// `not_found`; `schedule_finished` (conflict).
pub(crate) async fn cancel_sms_schedule(
    sms: &Sms,
    user_id: Uuid,
    schedule_id: Uuid,
) -> Result<Schedule, Error> {
    let mut unit = sms.work.begin().await?;
    let mut schedule = storage::schedules::lock_own(unit.tx(), user_id, schedule_id)
        .await?
        .ok_or_else(|| Error::not_found("schedule"))?;
    let now = unit.now();
    if schedule.cancel(now)? {
        // A worker strikes the rest.
        let most = MAX_ROWS as u64;
        let struck = storage::claims::cancel_queued(unit.tx(), schedule.set_id, most, now).await?;
        schedule.moved(
            MessageState::Queued,
            MessageState::Cancelled,
            signed(struck),
            now,
        );
        save_and_settle(&mut unit, &mut schedule).await?;
        sms.wake(&mut unit, |wakes| &wakes.claim);
        unit.commit().await?;
    }
    Ok(schedule)
}
