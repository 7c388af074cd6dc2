//! Removes sets of recipients that no schedule names and none will.

use jiff::SignedDuration;
use platform::Error;

use super::{MAX_ROWS, Sms};
use crate::storage;

/// How long an upload may lie untouched. Longer than any pause that an upload survives.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(15);
/// Rows removed in one transaction.
const BATCH: u64 = MAX_ROWS as u64;

/// Removes one set, a bounded number of rows in each transaction. Tells whether there was one that no other replica removes.
pub(crate) async fn sweep_uploads(sms: &Sms) -> Result<bool, Error> {
    let idle = SignedDuration::from_secs(i64::try_from(sms.config.upload_idle_s).unwrap_or(0));
    let before = sms.work.now() - MAX_AGE.max(idle.saturating_mul(2));
    // A look at what is committed costs no write lock.
    if !storage::uploads::any_untouched(sms.work.db().reader(), before).await? {
        return Ok(false);
    }
    loop {
        let unit = sms.work.begin().await?;
        // In each transaction anew: a set that a schedule has come to name in the meantime must stay.
        let Some(set_id) = storage::uploads::lock_untouched(unit.tx(), before).await? else {
            return Ok(false);
        };
        storage::uploads::abandon(unit.tx(), set_id).await?;
        let removed = storage::messages::delete_some(unit.tx(), set_id, BATCH).await?;
        if removed < BATCH {
            storage::uploads::forget(unit.tx(), set_id).await?;
        }
        unit.commit().await?;
        if removed < BATCH {
            return Ok(true);
        }
    }
}
