//! Sign out everywhere: every session of a user ends.

use std::time::Duration;

use jiff::Timestamp;
use platform::Error;
use platform::token::CLOCK_SKEW_SECONDS;
use uuid::Uuid;

use super::Commands;
use crate::domain::session::later;
use crate::events::EndReason;
use crate::storage::sessions;

/// Sessions ended in one transaction, so that no other writer waits long.
const CHUNK: u64 = 200;

impl Commands {
    /// Ends every session that the user has at this moment; returns how many.
    ///
    /// A crash on the way leaves some sessions open; asking again ends the rest.
    ///
    /// # Errors
    /// As any query.
    pub async fn logout_all(&self, user: Uuid) -> Result<u64, Error> {
        // By any replica's clock.
        let skew = Duration::from_secs(CLOCK_SKEW_SECONDS.unsigned_abs());
        let now = self.work.now();
        let began_by = later(now, skew);
        let live_at = now.checked_sub(skew).unwrap_or(Timestamp::MIN);
        let mut ended = 0;
        loop {
            let mut unit = self.work.begin().await?;
            let open = sessions::open_of(unit.tx(), user, began_by, live_at, CHUNK).await?;
            for session in &open {
                let reason = EndReason::SignOutEverywhere;
                ended += u64::from(self.end_session(&mut unit, *session, user, reason).await?);
            }
            unit.commit().await?;
            if (open.len() as u64) < CHUNK {
                return Ok(ended);
            }
        }
    }
}
