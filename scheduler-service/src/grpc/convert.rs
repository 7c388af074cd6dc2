//! Between proto and domain.

use jiff::Timestamp;
use platform::principal::Principal;
use platform::{Error, FieldViolation, page, time};
use proto::scheduler::v1 as pb;

use crate::commands::{CreateSmsSchedule, MAX_RECIPIENTS};
use crate::domain::{MessageState, Phone, Report, Schedule, Status, text};
use crate::storage::messages::Listed;

/// Reads what to create and names every field that is wrong.
pub(super) fn create_command(
    user: Principal,
    request: pb::CreateSmsScheduleRequest,
) -> Result<CreateSmsSchedule, Error> {
    let mut violations = Vec::new();
    let mut check = |field: &str, wrong: Option<String>| {
        violations.extend(wrong.map(|text| FieldViolation::new(field, text)));
    };
    check("message", text::check_message(&request.message).err());
    check("name", text::check_name(&request.name).err());
    check(
        "recipients",
        (request.recipients.len() > MAX_RECIPIENTS).then(|| {
            format!("must have at most {MAX_RECIPIENTS} numbers; upload longer lists as CSV")
        }),
    );
    let run_at = match time::from_proto("run_at", &request.run_at) {
        Ok(Some(run_at)) => Some(run_at),
        Ok(None) => {
            check("run_at", Some("is missing".to_owned()));
            None
        }
        Err(error) => {
            violations.extend(error.violations().iter().cloned());
            None
        }
    };
    match run_at {
        Some(run_at) if violations.is_empty() => Ok(CreateSmsSchedule {
            user,
            name: request.name,
            message: request.message,
            run_at,
            recipients: request.recipients,
            provider: request.provider,
        }),
        _ => Err(Error::invalid(violations)),
    }
}

/// Reads a filter by status; empty means all.
pub(super) fn status_filter(word: &str) -> Result<Option<Status>, Error> {
    filter("status", word, Status::parse)
}

/// Reads a filter by state; empty means all.
pub(super) fn state_filter(word: &str) -> Result<Option<MessageState>, Error> {
    filter("state", word, MessageState::parse)
}

/// Reads the number after which a list goes on; empty means its beginning.
pub(super) fn number_cursor(cursor: &str) -> Result<Option<Phone>, Error> {
    // Whoever asks may have written the cursor, so it holds any text until it was read.
    let text: Option<String> = page::decode_cursor(cursor)?;
    text.map(|text| {
        Phone::from_e164(&text)
            .ok_or_else(|| Error::invalid_field("cursor", "is not a cursor of this list"))
    })
    .transpose()
}

fn filter<T>(
    field: &str,
    word: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    if word.is_empty() {
        return Ok(None);
    }
    match parse(word) {
        Some(found) => Ok(Some(found)),
        None => Err(Error::invalid_field(field, "is not one of the known words")),
    }
}

pub(super) fn schedule(s: &Schedule) -> pb::SmsSchedule {
    pb::SmsSchedule {
        id: s.id.to_string(),
        name: s.name.clone(),
        run_at: Some(moment(s.run_at)),
        message: s.message.clone(),
        status: s.status.as_str().to_owned(),
        recipients: s.counts.total(),
        provider: s.provider.clone(),
        created_at: Some(moment(s.created_at)),
        started_at: s.started_at.map(moment),
        finished_at: s.finished_at.map(moment),
        version: s.version,
    }
}

pub(super) fn progress(s: &Schedule) -> pb::GetSmsProgressResponse {
    pb::GetSmsProgressResponse {
        total: s.counts.total(),
        by_state: s
            .counts
            .present()
            .map(|(state, n)| (state.as_str().to_owned(), n))
            .collect(),
        started_at: s.started_at.map(moment),
        finished_at: s.finished_at.map(moment),
        status: s.status.as_str().to_owned(),
    }
}

pub(super) fn report(report: &Report) -> pb::RecipientReport {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    pb::RecipientReport {
        accepted: count(report.accepted),
        duplicates: count(report.duplicates),
        rejected: count(report.rejected),
        first_rejects: report
            .first_rejects
            .iter()
            .map(|rejected| pb::RejectedRecipient {
                line: count(rejected.line),
                value: rejected.value.clone(),
                reason: rejected.reason.as_str().to_owned(),
            })
            .collect(),
    }
}

pub(super) fn message(message: Listed) -> pb::SmsMessage {
    pb::SmsMessage {
        id: message.id.to_string(),
        to: message.phone,
        state: message.state.as_str().to_owned(),
        provider_message_id: message.provider_message_id,
        sent_at: message.sent_at.map(moment),
        updated_at: Some(moment(message.updated_at)),
        error: message.error,
    }
}

/// A time as it is kept, in whole microseconds: an answer and a later question tell the same.
fn moment(at: Timestamp) -> prost_types::Timestamp {
    time::to_proto(time::from_micros(time::to_micros(at)))
}
