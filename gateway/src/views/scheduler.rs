//! SMS schedules.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proto::scheduler::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;

use super::{filled, time, time_or_zero};

/// A text to many numbers at a time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Schedule {
    /// UUIDv7.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    id: String,
    #[schema(example = "Diwali greetings")]
    name: String,
    #[schema(value_type = String, format = DateTime)]
    run_at: Timestamp,
    #[schema(example = "Happy Diwali!")]
    message: String,
    /// `draft` (no recipients yet), `scheduled`, `running`, `finished` or `cancelled`.
    #[schema(example = "scheduled")]
    status: String,
    /// Distinct valid numbers.
    recipients: i64,
    #[schema(example = "simulator")]
    provider: String,
    /// Rises with each change.
    version: i64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Null until the first message was taken up.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// Null until the last message was final.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<Option<pb::SmsSchedule>> for Schedule {
    fn from(schedule: Option<pb::SmsSchedule>) -> Self {
        schedule.unwrap_or_default().into()
    }
}

impl From<pb::SmsSchedule> for Schedule {
    fn from(schedule: pb::SmsSchedule) -> Self {
        Self {
            id: schedule.id,
            name: schedule.name,
            run_at: time_or_zero(schedule.run_at),
            message: schedule.message,
            status: schedule.status,
            recipients: schedule.recipients,
            provider: schedule.provider,
            version: schedule.version,
            created_at: time_or_zero(schedule.created_at),
            started_at: time(schedule.started_at),
            finished_at: time(schedule.finished_at),
        }
    }
}

/// What became of the recipients that were handed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecipientReport {
    /// Distinct valid numbers.
    #[schema(example = 998)]
    accepted: i64,
    /// Valid numbers that had been there before.
    #[schema(example = 1)]
    duplicates: i64,
    /// Not valid numbers.
    #[schema(example = 1)]
    rejected: i64,
    /// The first 100 of the rejected.
    first_rejects: Vec<RejectedRecipient>,
}

impl From<Option<pb::RecipientReport>> for RecipientReport {
    fn from(report: Option<pb::RecipientReport>) -> Self {
        let report = report.unwrap_or_default();
        Self {
            accepted: report.accepted,
            duplicates: report.duplicates,
            rejected: report.rejected,
            first_rejects: report
                .first_rejects
                .into_iter()
                .map(RejectedRecipient::from)
                .collect(),
        }
    }
}

/// A recipient that was not taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RejectedRecipient {
    /// Line of the CSV, or position in the list, from 1.
    #[schema(example = 17)]
    line: i64,
    /// What stood there, cut to 64 characters.
    #[schema(example = "12ab")]
    value: String,
    /// `not_a_number`, `invalid_number`, `too_long` or `empty`.
    #[schema(example = "not_a_number")]
    reason: String,
}

impl From<pb::RejectedRecipient> for RejectedRecipient {
    fn from(rejected: pb::RejectedRecipient) -> Self {
        let pb::RejectedRecipient {
            line,
            value,
            reason,
        } = rejected;
        Self {
            line,
            value,
            reason,
        }
    }
}

/// A new schedule and what became of its recipients.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedSchedule {
    #[serde(flatten)]
    schedule: Schedule,
    #[serde(flatten)]
    report: RecipientReport,
}

impl From<pb::CreateSmsScheduleResponse> for CreatedSchedule {
    fn from(created: pb::CreateSmsScheduleResponse) -> Self {
        Self {
            schedule: created.schedule.into(),
            report: created.report.into(),
        }
    }
}

/// How far a schedule has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Progress {
    #[schema(example = 1000)]
    total: i64,
    /// Messages by state: `QUEUED`, `SENDING`, `SENT`, `ENROUTE`, `CANCELLED`, and the final `DELIVRD`, `UNDELIV`,
    /// `EXPIRED`, `REJECTD`, `DELETED`, `UNKNOWN`.
    #[schema(example = json!({"DELIVRD": 990, "ENROUTE": 10}))]
    by_state: BTreeMap<String, i64>,
    /// As in the schedule.
    #[schema(example = "running")]
    status: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<pb::GetSmsProgressResponse> for Progress {
    fn from(progress: pb::GetSmsProgressResponse) -> Self {
        Self {
            total: progress.total,
            by_state: progress.by_state.into_iter().collect(),
            status: progress.status,
            started_at: time(progress.started_at),
            finished_at: time(progress.finished_at),
        }
    }
}

/// One text to one number.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Message {
    /// UUIDv7; the reference given to the provider.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    id: String,
    /// Number in E.164.
    #[schema(example = "+27821234567")]
    to: String,
    #[schema(example = "DELIVRD")]
    state: String,
    /// Id that the provider gave; null until it did.
    provider_message_id: Option<String>,
    /// When the provider took it; null until it did.
    #[schema(value_type = Option<String>, format = DateTime)]
    sent_at: Option<Timestamp>,
    /// When the state last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    /// Error of the provider; null when none.
    error: Option<String>,
}

impl From<pb::SmsMessage> for Message {
    fn from(message: pb::SmsMessage) -> Self {
        Self {
            id: message.id,
            to: message.to,
            state: message.state,
            provider_message_id: filled(message.provider_message_id),
            sent_at: time(message.sent_at),
            updated_at: time(message.updated_at),
            error: filled(message.error),
        }
    }
}
