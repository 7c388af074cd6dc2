//! Send one mail that was claimed, and note what came of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lettre::message::Mailbox;
use platform::keys::Keys;
use platform::work::Work;
use platform::{Error, time};

use crate::channels::{Channel, Mail, SendError};
use crate::domain::backoff;
use crate::storage::entities::mails::Model;
use crate::storage::mails::{self, Claim, Outcome};
use crate::templates::{Templates, Values};

/// How long an outcome is tried to be noted. What is not noted is sent again, so a database that restarts is waited for.
const NOTE_FOR: Duration = Duration::from_secs(20);
/// Pause between two tries of that.
const NOTE_AGAIN: Duration = Duration::from_millis(500);

/// How mails are sent.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Times that a mail is taken up before it is given up.
    pub(crate) attempts: u32,
    /// Wait after the first failure; doubles each time.
    pub(crate) first_wait: Duration,
    /// Longest wait.
    pub(crate) longest_wait: Duration,
    /// How long the channel may take for one mail.
    pub(crate) send_timeout: Duration,
    /// How long a claim holds unless it is renewed, which happens four times as often.
    pub(crate) lease: Duration,
    /// Mails handed to the channel at the same time.
    pub(crate) at_once: usize,
}

/// Renders a mail, hands it to the channel and notes what came of it.
pub(crate) struct Mailer {
    pub(crate) work: Work,
    pub(crate) keys: Arc<Keys>,
    pub(crate) templates: Templates,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) from: Mailbox,
    pub(crate) policy: Policy,
}

impl Mailer {
    /// Sends a mail whose claim is ours. Returns when it is to be tried again.
    pub(crate) async fn send(&self, claimed: Model) -> Option<Timestamp> {
        let outcome = match self.attempt(&claimed).await {
            Ok(outcome) => outcome,
            Err(error) => self.after(claimed.attempts, error),
        };
        let attempt = claimed.attempts;
        match &outcome {
            Outcome::Sent => tracing::info!(mail.attempt = attempt, "mail sent"),
            Outcome::Expired => tracing::warn!("mail not sent: its secret has expired"),
            Outcome::Retry { error, .. } => {
                tracing::warn!(mail.attempt = attempt, error, "mail put off");
            }
            Outcome::Failed { error } => {
                tracing::error!(mail.attempt = attempt, error, "mail given up");
            }
        }
        self.note((claimed.id, claimed.attempts), &outcome).await;
        match outcome {
            Outcome::Retry { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Notes what came of a claim, and tries again for a while when the database does not answer.
    pub(crate) async fn note(&self, claim: Claim, outcome: &Outcome) {
        let until = tokio::time::Instant::now() + NOTE_FOR;
        loop {
            match self.settle(claim, outcome).await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::warn!("the claim of a mail had run out before it was settled");
                    return;
                }
                Err(error) if tokio::time::Instant::now() < until => {
                    tracing::debug!(%error, "the outcome of a mail is noted later");
                    tokio::time::sleep(NOTE_AGAIN).await;
                }
                Err(error) => {
                    // The claim runs out and the mail is taken up again; its reader's machine knows it by its id.
                    tracing::warn!(%error, "the outcome of a mail could not be noted");
                    return;
                }
            }
        }
    }

    fn after(&self, attempts: i64, error: SendError) -> Outcome {
        let text = for_the_record(&error.to_string());
        let attempt = u32::try_from(attempts).unwrap_or(u32::MAX);
        if matches!(error, SendError::Permanent(_)) || attempt >= self.policy.attempts {
            return Outcome::Failed { error: text };
        }
        if matches!(error, SendError::Misconfigured(_)) {
            tracing::error!(error = text, "no mail leaves until this is put right");
        }
        let (first, most) = (self.policy.first_wait, self.policy.longest_wait);
        let wait = backoff::wait(attempt, first, most, rand::random());
        Outcome::Retry {
            at: self.work.now() + wait,
            error: text,
        }
    }

    async fn attempt(&self, claimed: &Model) -> Result<Outcome, SendError> {
        if time::from_micros(claimed.expires_at) <= self.work.now() {
            return Ok(Outcome::Expired);
        }
        if claimed.attempts > i64::from(self.policy.attempts) {
            let text = "it was taken up too often without an outcome".to_owned();
            return Err(SendError::Permanent(text));
        }
        let mail = self.prepare(claimed)?;
        match tokio::time::timeout(self.policy.send_timeout, self.channel.send(&mail)).await {
            Ok(sent) => sent.map(|()| Outcome::Sent),
            Err(_) => Err(SendError::Transient("the channel took too long".to_owned())),
        }
    }

    fn prepare(&self, claimed: &Model) -> Result<Mail, SendError> {
        let sealed = claimed
            .sealed
            .as_deref()
            .ok_or_else(|| SendError::Permanent("the secret is gone".to_owned()))?;
        let secret = self
            .keys
            .open_mail(sealed, claimed.user_id.as_bytes())
            .map_err(|error| SendError::Permanent(error.to_string()))?;
        let values = Values {
            name: &secret.name,
            secrets: &secret.values.into_iter().collect(),
            expires_at: time::from_micros(claimed.expires_at),
        };
        let words = self
            .templates
            .render(&claimed.template, &claimed.locale, &values)
            // The text of a template error may quote a value: say only which kind it is.
            .map_err(|error| SendError::Permanent(format!("template: {}", error.kind())))?;
        Ok(Mail {
            id: claimed.id,
            from: self.from.clone(),
            to: secret.to,
            name: secret.name,
            subject: words.subject,
            text: words.text,
            html: words.html,
            date: time::from_micros(claimed.created_at),
        })
    }

    async fn settle(&self, claim: Claim, outcome: &Outcome) -> Result<bool, Error> {
        let unit = self.work.begin().await?;
        let ours = mails::settle(unit.tx(), claim, outcome, unit.now()).await?;
        unit.commit().await?;
        Ok(ours)
    }
}

/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 300;

/// Words of a mail server as they may be logged and stored: one bounded line without addresses.
fn for_the_record(text: &str) -> String {
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| {
            if word.contains('@') {
                "<address>"
            } else {
                word
            }
        });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_servers_words_is_one_short_line_without_addresses() {
        let words = "550 5.1.1 <asha@example.org>:\r\n550 no\0body \t here, write\u{7} to \"b\"@c";
        assert_eq!(
            for_the_record(words),
            "550 5.1.1 <address> 550 no body here, write to <address>"
        );
        assert_eq!(
            for_the_record(&"ä ".repeat(500)).chars().count(),
            LONGEST_REASON
        );
    }
}
