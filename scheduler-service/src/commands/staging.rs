//! Sets of recipients that no schedule names yet.
//!
//! Rows go into such a set a bounded number in each transaction; then one short transaction makes a schedule name it.
//! Whatever breaks off before that leaves a set for the sweeper and nothing else.

use std::time::{Duration, Instant};

use platform::work::UnitOfWork;
use platform::{Error, id};
use sea_orm::DbBackend;
use uuid::Uuid;

use super::{MAX_ROWS, Sms};
use crate::domain::Phone;
use crate::{error, storage};

/// Fewest rows of one transaction, however slow the disk.
const MIN_ROWS: usize = 50;
/// A transaction that holds the one writer of SQLite for longer than this makes the next ones smaller.
const LONGEST_COMMIT: Duration = Duration::from_millis(50);

/// Whether a transaction that writes keeps all others from writing.
fn alone(sms: &Sms) -> bool {
    sms.work.db().backend() == DbBackend::Sqlite
}

/// A set that is being filled.
pub(super) struct Staging<'a> {
    sms: &'a Sms,
    set_id: Uuid,
    /// Rows of the next transaction.
    rows: usize,
}

impl<'a> Staging<'a> {
    /// Begins a set; it is there once the unit is committed.
    pub(super) async fn begin(sms: &'a Sms, unit: &UnitOfWork) -> Result<Self, Error> {
        let set_id = id::new(unit.now());
        storage::uploads::begin(unit.tx(), set_id, unit.now()).await?;
        Ok(Self {
            sms,
            set_id,
            rows: if alone(sms) { MAX_ROWS / 4 } else { MAX_ROWS },
        })
    }

    pub(super) fn set_id(&self) -> Uuid {
        self.set_id
    }

    /// Numbers that the next [`Staging::write`] takes at most.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Writes the first of `phones` in one transaction. Tells how many it took, and how many of them were new to the set.
    ///
    /// # Errors
    /// `upload_expired` when the set was given up meanwhile.
    pub(super) async fn write(&mut self, phones: &[Phone]) -> Result<(usize, u64), Error> {
        let phones = &phones[..phones.len().min(self.rows)];
        let unit = self.sms.work.begin().await?;
        let begun = Instant::now();
        if !storage::uploads::touch(unit.tx(), self.set_id, unit.now()).await? {
            return Err(error::upload_expired());
        }
        let added =
            storage::messages::insert_new(unit.tx(), self.set_id, phones, unit.now()).await?;
        unit.commit().await?;
        let took = begun.elapsed();
        if !alone(self.sms) {
            // Nobody waits for these rows.
        } else if took > LONGEST_COMMIT {
            self.rows = (self.rows / 2).max(MIN_ROWS);
        } else if took < LONGEST_COMMIT / 2 {
            self.rows = (self.rows * 2).min(MAX_ROWS);
        }
        Ok((phones.len(), added))
    }

    /// Ends the set, within the unit that makes a schedule name it.
    ///
    /// # Errors
    /// `upload_expired` when the set was given up meanwhile.
    pub(super) async fn end(&self, unit: &UnitOfWork) -> Result<(), Error> {
        if storage::uploads::end(unit.tx(), self.set_id).await? {
            Ok(())
        } else {
            Err(error::upload_expired())
        }
    }

    /// Gives what was written to the sweeper, unless a schedule names it. If that fails as well, the sweeper finds it
    /// later by its age.
    pub(super) async fn abandon(&self) {
        let given = async {
            let mut unit = self.sms.work.begin().await?;
            storage::uploads::abandon(unit.tx(), self.set_id).await?;
            self.sms.wake(&mut unit, |wakes| &wakes.sweep);
            unit.commit().await
        };
        if let Err(error) = given.await {
            tracing::warn!(%error, upload.id = %self.set_id, "an upload is left to its age");
        }
    }
}
