//! Replaces the recipients of a schedule by those of a CSV stream, as a whole.
//!
//! The rows go into a set that no schedule names yet. When everything has come, one transaction makes the schedule name it.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use platform::principal::Principal;
use platform::{Error, Kind};
use uuid::Uuid;

use super::staging::Staging;
use super::{Sms, charge, signed};
use crate::csv::RecipientsCsv;
use crate::domain::{Phone, Refusal, Report, Status, timing};
use crate::{error, storage};

/// Bytes that are parsed before others get their turn.
const SLICE_BYTES: usize = 8 * 1024;

/// What an upload brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// That there are no more.
    End,
}

/// Replaces the recipients of the user's schedule. The same file again gives the same answer.
///
/// # Errors
/// `not_found`; `schedule_started`, `daily_recipient_quota_exceeded`, `upload_expired` (conflicts);
/// `upload_incomplete` (conflict) when the pieces end without [`Piece::End`]; `upload_stalled` (timeout); violations of
/// `csv` and `complete`; whatever breaks the stream.
pub(crate) async fn upload_sms_recipients(
    sms: &Sms,
    user: &Principal,
    schedule_id: Uuid,
    pieces: impl Stream<Item = Result<Piece, Error>> + Send + Unpin,
) -> Result<Report, Error> {
    let mut upload = Upload::begin(sms, user, schedule_id).await?;
    let taken = match upload.take(pieces).await {
        Ok(()) => upload.activate(schedule_id).await,
        broken => broken,
    };
    match taken {
        Ok(()) => Ok(upload.report),
        Err(error) => {
            upload.staging.abandon().await;
            Err(error)
        }
    }
}

struct Upload<'a> {
    sms: &'a Sms,
    user: &'a Principal,
    staging: Staging<'a>,
    report: Report,
    /// Numbers read and not yet written.
    pending: Vec<Phone>,
    /// Recipients for which the quota has room; only an early check, the last word has [`Upload::activate`].
    room: Option<u64>,
}

impl<'a> Upload<'a> {
    async fn begin(sms: &'a Sms, user: &'a Principal, schedule_id: Uuid) -> Result<Self, Error> {
        let db = sms.work.db();
        let schedule = storage::schedules::find(db.reader(), user.user_id, schedule_id)
            .await?
            .ok_or_else(|| Error::not_found("schedule"))?;
        if !matches!(schedule.status, Status::Draft | Status::Scheduled) {
            return Err(Refusal::Started.into());
        }
        let unit = sms.work.begin().await?;
        let today = timing::day_of(unit.now());
        let mut used = storage::quotas::on(unit.tx(), user.user_id, today).await?;
        if schedule.charged_day == today {
            used -= schedule.counts.total();
        }
        let used = u64::try_from(used).unwrap_or(0);
        let staging = Staging::begin(sms, &unit).await?;
        unit.commit().await?;
        Ok(Self {
            sms,
            user,
            staging,
            report: Report::default(),
            pending: Vec::new(),
            room: sms
                .daily_limit(user)
                .map(|limit| limit.saturating_sub(used)),
        })
    }

    /// Takes the whole stream.
    async fn take(
        &mut self,
        mut pieces: impl Stream<Item = Result<Piece, Error>> + Send + Unpin,
    ) -> Result<(), Error> {
        let idle = Duration::from_secs(self.sms.config.upload_idle_s);
        let mut csv = RecipientsCsv::default();
        loop {
            let next = tokio::time::timeout(idle, pieces.next());
            let next = next.await.map_err(|_| stalled())?;
            // A call that its caller gave up looks like a stream that ended; only the word for it is an end.
            let bytes = match next.transpose()? {
                Some(Piece::Bytes(bytes)) => bytes,
                Some(Piece::End) => break,
                None => return Err(error::upload_incomplete()),
            };
            for slice in bytes.chunks(SLICE_BYTES) {
                self.read(|each| csv.push(slice, each))?;
                while self.pending.len() >= self.staging.rows() {
                    self.write().await?;
                }
                tokio::task::yield_now().await;
            }
        }
        let after = tokio::time::timeout(idle, pieces.next());
        if after.await.map_err(|_| stalled())?.transpose()?.is_some() {
            return Err(Error::invalid_field("complete", "must come last"));
        }
        self.read(|each| csv.finish(each))?;
        while !self.pending.is_empty() {
            self.write().await?;
        }
        Ok(())
    }

    /// Reads the cells that `parse` hands out.
    fn read<E: Into<Error>>(
        &mut self,
        parse: impl FnOnce(&mut dyn FnMut(u64, &str)) -> Result<(), E>,
    ) -> Result<(), Error> {
        let Self {
            sms,
            report,
            pending,
            ..
        } = self;
        parse(&mut |line, cell| {
            pending.extend(report.sort(line, cell, sms.numbering.normalise(cell)));
        })
        .map_err(Into::into)?;
        let most = self.sms.config.max_upload_rows;
        if self.report.rows() + self.pending.len() as u64 > most {
            return Err(Error::invalid_field(
                "csv",
                format!("must have at most {most} rows"),
            ));
        }
        Ok(())
    }

    /// Writes a batch of what was read.
    async fn write(&mut self) -> Result<(), Error> {
        let (taken, added) = self.staging.write(&self.pending).await?;
        self.pending.drain(..taken);
        self.report.accepted += added;
        self.report.duplicates += taken as u64 - added;
        if self.room.is_some_and(|room| self.report.accepted > room) {
            return Err(self.quota_exceeded());
        }
        Ok(())
    }

    /// Makes the schedule name the new set.
    async fn activate(&self, schedule_id: Uuid) -> Result<(), Error> {
        let mut unit = self.sms.work.begin().await?;
        let user_id = self.user.user_id;
        let mut schedule = storage::schedules::lock_own(unit.tx(), user_id, schedule_id)
            .await?
            .ok_or_else(|| Error::not_found("schedule"))?;
        let (old_set, old_day) = (schedule.set_id, schedule.charged_day);
        let old_recipients = schedule.counts.total();
        let today = timing::day_of(unit.now());
        let recipients = signed(self.report.accepted);
        schedule.replace_recipients(self.staging.set_id(), recipients, today)?;
        self.staging.end(&unit).await?;
        if old_recipients > 0 {
            storage::quotas::add(unit.tx(), user_id, old_day, -old_recipients).await?;
            storage::uploads::retire(unit.tx(), old_set).await?;
            self.sms.wake(&mut unit, |wakes| &wakes.sweep);
        }
        let limit = self.sms.daily_limit(self.user);
        if !charge(&unit, user_id, today, recipients, limit).await? {
            return Err(self.quota_exceeded());
        }
        storage::schedules::save(unit.tx(), &schedule).await?;
        self.sms.wake(&mut unit, |wakes| &wakes.claim);
        unit.commit().await
    }

    fn quota_exceeded(&self) -> Error {
        error::quota_exceeded(self.sms.daily_limit(self.user).unwrap_or_default())
    }
}

fn stalled() -> Error {
    Error::new(
        Kind::Timeout,
        "upload_stalled",
        "no more of the file came in time",
    )
}
