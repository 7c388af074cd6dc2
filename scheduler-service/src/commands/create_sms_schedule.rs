//! Creates a schedule, with recipients or without.

use std::collections::HashSet;

use jiff::Timestamp;
use platform::principal::Principal;
use platform::work::{Answer, Begun, RequestKey, UnitOfWork};
use platform::{Error, FieldViolation, id};

use super::{Sms, charge, signed};
use crate::domain::{Counts, Phone, Report, Schedule, Status, timing};
use crate::{error, storage};

/// Most recipients of one request.
pub(crate) const MAX_RECIPIENTS: usize = 10_000;
/// Numbers that are read before others get their turn.
const READ_AT_A_TIME: usize = 64;

/// What to create. Message, name and number of recipients are within their bounds.
pub(crate) struct CreateSmsSchedule {
    pub(crate) user: Principal,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) run_at: Timestamp,
    pub(crate) recipients: Vec<String>,
    /// Empty means the configured default.
    pub(crate) provider: String,
}

/// Creates a schedule once under its key. Gives the answer and whether it is that of an earlier time.
///
/// # Errors
/// Violations of `run_at` and `provider`, which burn no key; any failure of the database.
pub(crate) async fn create_sms_schedule(
    sms: &Sms,
    key: &RequestKey,
    command: CreateSmsSchedule,
    encode: impl FnOnce(&Schedule, &Report) -> Vec<u8> + Send,
) -> Result<(Answer, bool), Error> {
    // Reading numbers takes time; the one writer of SQLite is not kept waiting for it.
    let (phones, report) = read_recipients(sms, &command.recipients).await;
    match sms.work.begin_once(key).await? {
        Begun::Replayed(answer) => Ok((answer, true)),
        Begun::Fresh(unit) => Ok((
            create(sms, unit, command, &phones, &report, encode).await?,
            false,
        )),
    }
}

async fn read_recipients(sms: &Sms, recipients: &[String]) -> (Vec<Phone>, Report) {
    let mut report = Report::default();
    let mut seen = HashSet::with_capacity(recipients.len());
    let mut phones = Vec::with_capacity(recipients.len());
    for (line, written) in (1..).zip(recipients) {
        if let Some(phone) = report.sort(line, written, sms.numbering.normalise(written)) {
            if seen.insert(phone.clone()) {
                report.accepted += 1;
                phones.push(phone);
            } else {
                report.duplicates += 1;
            }
        }
        if phones.len() % READ_AT_A_TIME == 0 {
            tokio::task::yield_now().await;
        }
    }
    (phones, report)
}

async fn create(
    sms: &Sms,
    mut unit: UnitOfWork,
    command: CreateSmsSchedule,
    phones: &[Phone],
    report: &Report,
    encode: impl FnOnce(&Schedule, &Report) -> Vec<u8> + Send,
) -> Result<Answer, Error> {
    let now = unit.now();
    let (run_at, provider) = check(sms, &command, now)?;
    let day = timing::day_of(now);
    let recipients = signed(report.accepted);
    let limit = sms.daily_limit(&command.user);
    if !charge(&unit, command.user.user_id, day, recipients, limit).await? {
        let refusal = Err(error::quota_exceeded(limit.unwrap_or_default()));
        unit.store_answer(&refusal).await?;
        unit.commit().await?;
        return Ok(refusal);
    }
    let set_id = id::new(now);
    let mut schedule = Schedule {
        id: id::new(now),
        user_id: command.user.user_id,
        set_id,
        name: command.name,
        message: command.message,
        provider,
        status: Status::Draft,
        run_at,
        counts: Counts::default(),
        claim_at: None,
        charged_day: day,
        created_at: now,
        started_at: None,
        finished_at: None,
        version: 0,
    };
    schedule.replace_recipients(set_id, recipients, day)?;
    storage::schedules::insert(unit.tx(), &schedule).await?;
    storage::messages::insert_new(unit.tx(), set_id, phones, now).await?;
    let answer = Ok(encode(&schedule, report));
    unit.store_answer(&answer).await?;
    sms.wake(&mut unit, |wakes| &wakes.claim);
    unit.commit().await?;
    Ok(answer)
}

/// What can only be checked once it is known that the request is not a repetition: a retry comes later than the first.
fn check(
    sms: &Sms,
    command: &CreateSmsSchedule,
    now: Timestamp,
) -> Result<(Timestamp, String), Error> {
    let provider = if command.provider.is_empty() {
        &sms.config.default_provider
    } else {
        &command.provider
    };
    let known = sms.providers.get(provider).is_some();
    match timing::start_at(command.run_at, now) {
        Ok(run_at) if known => Ok((run_at, provider.clone())),
        run_at => {
            let mut violations = Vec::new();
            violations.extend(run_at.err().map(|text| FieldViolation::new("run_at", text)));
            if !known {
                violations.push(FieldViolation::new("provider", "is not configured here"));
            }
            Err(Error::invalid(violations))
        }
    }
}
