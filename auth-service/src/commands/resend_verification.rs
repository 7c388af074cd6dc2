//! Ask for the verification mail once more.

use std::time::Duration;

use jiff::Timestamp;
use platform::Error;
use platform::time::from_micros;
use uuid::Uuid;

use super::Commands;
use crate::domain::session::later;
use crate::error::Refusal;
use crate::storage::{email_tokens, users};

const HOUR: Duration = Duration::from_secs(60 * 60);

impl Commands {
    /// Mails a new verification token. Older ones work on until they expire.
    ///
    /// # Errors
    /// `email_already_verified`, `too_many_mails`, `account_gone`.
    pub async fn resend_verification(&self, user: Uuid) -> Result<(), Error> {
        let mut unit = self.work.begin().await?;
        let now = unit.now();
        let user = users::by_id(unit.tx(), user)
            .await?
            .ok_or(Refusal::AccountGone)?;
        if user.email_verified {
            return Err(Refusal::EmailAlreadyVerified.into());
        }
        let mail = &self.config.mail;
        let pause = Duration::from_secs(u64::from(mail.resend_pause_s));
        let since = now.checked_sub(pause).unwrap_or(Timestamp::MIN);
        // Also locks the row, so that two at the same time count each other's mails below.
        if !users::claim_verification_mail(unit.tx(), user.id, since, now).await? {
            let last = user.verification_mail_at.map_or(now, from_micros);
            return Err(Refusal::TooManyMails(left(last, pause, now)).into());
        }
        let hour_ago = now.checked_sub(HOUR).unwrap_or(Timestamp::MIN);
        let most = mail.resend_per_hour as usize;
        let limit = u64::from(mail.resend_per_hour);
        let sent = email_tokens::made_since(unit.tx(), user.id, hour_ago, limit).await?;
        if let Some(oldest) = sent.get(most - 1) {
            return Err(Refusal::TooManyMails(left(*oldest, HOUR, now)).into());
        }
        self.request_verification(&mut unit, &user).await?;
        unit.commit().await
    }
}

fn left(since: Timestamp, pause: Duration, now: Timestamp) -> Duration {
    let left = later(since, pause).duration_since(now);
    if left.is_positive() {
        left.unsigned_abs()
    } else {
        Duration::from_secs(1)
    }
}
