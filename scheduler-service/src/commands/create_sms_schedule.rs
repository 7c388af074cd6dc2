//! Creates a schedule, with recipients or without.

use std::collections::HashSet;

use jiff::Timestamp;
use platform::principal::Principal;
use platform::work::{Answer, Begun, RequestKey, UnitOfWork};
use platform::{Error, FieldViolation, id};
use uuid::Uuid;

use super::staging::Staging;
use super::{MAX_ROWS, Sms, charge, signed};
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
    // Reading numbers takes time; the one writer of SQLite is not kept waiting for it either.
    let (phones, report) = read_recipients(sms, &command.recipients).await;
    let unit = match sms.work.begin_once(key).await? {
        Begun::Replayed(answer) => return Ok((answer, true)),
        Begun::Fresh(unit) => unit,
    };
    check(sms, &command, unit.now())?;
    let order = Order {
        command,
        report,
        encode,
    };
    // A long list has its rows written before, so that they do not hold up the one writer of SQLite; one that the quota
    // has no room for is refused without.
    if phones.len() <= MAX_ROWS || !has_room(sms, &unit, &order).await? {
        let answer = order.fulfil(sms, unit, Recipients::Read(&phones)).await?;
        return Ok((answer, false));
    }
    drop(unit);
    create_from_staged(sms, key, order, &phones).await
}

/// Writes the recipients into a set of their own and then creates the schedule. Two that do so at once under one key
/// write two sets, of which one is named by the schedule and the other is swept.
async fn create_from_staged<F: FnOnce(&Schedule, &Report) -> Vec<u8> + Send>(
    sms: &Sms,
    key: &RequestKey,
    order: Order<F>,
    phones: &[Phone],
) -> Result<(Answer, bool), Error> {
    let unit = sms.work.begin().await?;
    let mut staging = Staging::begin(sms, &unit).await?;
    unit.commit().await?;
    let created = async {
        let mut rest = phones;
        while !rest.is_empty() {
            let (taken, _) = staging.write(rest).await?;
            rest = &rest[taken..];
        }
        match sms.work.begin_once(key).await? {
            Begun::Replayed(answer) => Ok((answer, true)),
            Begun::Fresh(unit) => {
                let staged = Recipients::Staged(&staging);
                Ok((order.fulfil(sms, unit, staged).await?, false))
            }
        }
    };
    let created = created.await;
    if !matches!(created, Ok((Ok(_), false))) {
        staging.abandon().await;
    }
    created
}

/// Whether the user's quota has room for the recipients; only an early look, the last word has the charge.
async fn has_room<F>(sms: &Sms, unit: &UnitOfWork, order: &Order<F>) -> Result<bool, Error> {
    let user = &order.command.user;
    let used = storage::quotas::on(unit.tx(), user.user_id, timing::day_of(unit.now())).await?;
    let sum = used.saturating_add(signed(order.report.accepted));
    Ok(sms
        .daily_limit(user)
        .is_none_or(|limit| u64::try_from(sum).is_ok_and(|sum| sum <= limit)))
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

/// The rows of the recipients.
enum Recipients<'a> {
    /// Still to be written.
    Read(&'a [Phone]),
    /// Written.
    Staged(&'a Staging<'a>),
}

/// What to create, what became of the recipients, and how the answer is written.
struct Order<F> {
    command: CreateSmsSchedule,
    report: Report,
    encode: F,
}

impl<F: FnOnce(&Schedule, &Report) -> Vec<u8> + Send> Order<F> {
    async fn fulfil(
        self,
        sms: &Sms,
        mut unit: UnitOfWork,
        recipients: Recipients<'_>,
    ) -> Result<Answer, Error> {
        let Self {
            command,
            report,
            encode,
        } = self;
        let now = unit.now();
        let (run_at, provider) = check(sms, &command, now)?;
        let day = timing::day_of(now);
        let accepted = signed(report.accepted);
        let limit = sms.daily_limit(&command.user);
        if !charge(&unit, command.user.user_id, day, accepted, limit).await? {
            let refusal = Err(error::quota_exceeded(limit.unwrap_or_default()));
            unit.store_answer(&refusal).await?;
            unit.commit().await?;
            return Ok(refusal);
        }
        let set_id = match recipients {
            Recipients::Read(_) => id::new(now),
            Recipients::Staged(staging) => staging.set_id(),
        };
        let mut schedule = draft(command, set_id, run_at, provider, now);
        schedule.replace_recipients(set_id, accepted, day)?;
        storage::schedules::insert(unit.tx(), &schedule).await?;
        match recipients {
            Recipients::Read(phones) => {
                storage::messages::insert_new(unit.tx(), set_id, phones, now).await?;
            }
            Recipients::Staged(staging) => staging.end(&unit).await?,
        }
        let answer = Ok(encode(&schedule, &report));
        unit.store_answer(&answer).await?;
        sms.wake(&mut unit, |wakes| &wakes.claim);
        unit.commit().await?;
        Ok(answer)
    }
}

/// The schedule before it has recipients.
fn draft(
    command: CreateSmsSchedule,
    set_id: Uuid,
    run_at: Timestamp,
    provider: String,
    now: Timestamp,
) -> Schedule {
    Schedule {
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
        charged_day: timing::day_of(now),
        created_at: now,
        started_at: None,
        finished_at: None,
        version: 0,
    }
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
