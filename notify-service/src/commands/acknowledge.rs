//! Store how far a device has read.

use platform::work::Work;
use platform::{Error, time};
use uuid::Uuid;

use crate::error::position_error;
use crate::storage::{acknowledgements, streams};

/// Devices whose acknowledgements are kept for one user; those that acknowledged longest ago are forgotten.
const MOST_DEVICES: u64 = 100;

/// Notes that a device has every event up to and with `seq`. An earlier number than the last changes nothing.
///
/// # Errors
/// `invalid_argument` on `seq` when it is negative or ahead of the newest event.
pub(crate) async fn acknowledge(
    work: &Work,
    user_id: Uuid,
    device: &str,
    seq: i64,
) -> Result<(), Error> {
    // A look first: clients acknowledge often, and what changes nothing needs no write.
    let reader = work.db().reader();
    let (extent, _) = streams::read(reader, user_id).await?;
    extent
        .check(seq)
        .map_err(|error| position_error("seq", error))?;
    let known = acknowledgements::find(reader, user_id, device).await?;
    if known.is_some_and(|known| known >= seq) {
        return Ok(());
    }
    let unit = work.begin().await?;
    if known.is_none() {
        // New devices of a user come one after the other, so that each sees the others when it counts them.
        streams::lock(unit.tx(), user_id).await?;
    }
    let now = time::to_micros(unit.now());
    acknowledgements::put(unit.tx(), user_id, device, seq, now).await?;
    if known.is_none() {
        acknowledgements::keep_newest(unit.tx(), user_id, MOST_DEVICES).await?;
    }
    unit.commit().await
}
