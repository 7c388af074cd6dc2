//! What the scheduler tells others. It listens to nobody.

use platform::work::UnitOfWork;
use proto::scheduler::v1::SmsScheduleFinished;

use crate::domain::{MessageState, Schedule};

/// Tells that a schedule has ended.
pub(crate) fn schedule_finished(unit: &mut UnitOfWork, schedule: &Schedule) {
    unit.emit(
        schedule.id,
        &SmsScheduleFinished {
            schedule_id: schedule.id.to_string(),
            user_id: schedule.user_id.to_string(),
            status: schedule.status.as_str().to_owned(),
            total: schedule.counts.total(),
            delivered: schedule.counts.of(MessageState::Delivrd),
        },
    );
}
