//! Send the mails that are due.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use lettre::message::Mailbox;
use platform::keys::Keys;
use platform::work::Work;
use platform::{Error, time};
use tracing::Instrument;

use crate::channels::{Channel, Mail, SendError};
use crate::domain::backoff;
use crate::storage::entities::mails::Model;
use crate::storage::mails::{self, Outcome};
use crate::templates::{Templates, Values};

/// Mails claimed in one go.
const BATCH: u64 = 32;
/// Mails handed to the channel at the same time.
const AT_ONCE: usize = 8;

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
}

impl Policy {
    /// How long a claim holds: longer than a whole batch takes at worst.
    fn lease(&self) -> Duration {
        let rounds = u32::try_from(BATCH.div_ceil(AT_ONCE as u64)).unwrap_or(u32::MAX);
        self.send_timeout
            .saturating_mul(rounds)
            .saturating_add(Duration::from_secs(30))
    }
}

/// Sends mails: takes what is due, renders it, hands it to the channel and notes what came of it.
pub(crate) struct Mailer {
    pub(crate) work: Work,
    pub(crate) keys: Arc<Keys>,
    pub(crate) templates: Templates,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) from: Mailbox,
    pub(crate) policy: Policy,
}

impl Mailer {
    /// Sends one batch of due mails. Returns whether there may be more.
    pub(crate) async fn send_due(&self) -> Result<bool, Error> {
        // A look that costs no write lock: most of the time nothing is due.
        let next = mails::next_due(self.work.db().reader()).await?;
        if next.is_none_or(|due| due > self.work.now()) {
            return Ok(false);
        }
        let unit = self.work.begin().await?;
        let until = unit.now() + self.policy.lease();
        let claimed = mails::claim(unit.tx(), unit.now(), until, BATCH).await?;
        unit.commit().await?;
        let more = claimed.len() as u64 == BATCH;
        stream::iter(claimed)
            .for_each_concurrent(AT_ONCE, |mail| async move {
                let span = tracing::info_span!("notify.send_mail", mail.id = %mail.id, mail.template = %mail.template);
                platform::telemetry::set_parent(&span, &mail.traceparent);
                self.send_one(mail).instrument(span).await;
            })
            .await;
        Ok(more)
    }

    async fn send_one(&self, claimed: Model) {
        let outcome = self.attempt(&claimed).await;
        let error = outcome
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        let attempt = u32::try_from(claimed.attempts).unwrap_or(u32::MAX);
        let outcome = match outcome {
            Ok(true) => Outcome::Sent,
            Ok(false) => Outcome::Expired,
            Err(SendError::Transient(_)) if attempt < self.policy.attempts => {
                let (first, most) = (self.policy.first_wait, self.policy.longest_wait);
                let at = self.work.now() + backoff::wait(attempt, first, most, rand::random());
                Outcome::Retry { at, error: &error }
            }
            Err(_) => Outcome::Failed { error: &error },
        };
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
        match self.settle(&claimed, outcome).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("the claim of a mail had run out before it was settled"),
            // The claim runs out and the mail is taken up again; the channel knows it by its id.
            Err(error) => tracing::warn!(%error, "the outcome of a mail could not be noted"),
        }
    }

    /// Whether the mail left (true) or was too late (false).
    async fn attempt(&self, claimed: &Model) -> Result<bool, SendError> {
        if time::from_micros(claimed.expires_at) <= self.work.now() {
            return Ok(false);
        }
        let mail = self.prepare(claimed)?;
        match tokio::time::timeout(self.policy.send_timeout, self.channel.send(&mail)).await {
            Ok(sent) => sent.map(|()| true),
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

    async fn settle(&self, claimed: &Model, outcome: Outcome<'_>) -> Result<bool, Error> {
        let unit = self.work.begin().await?;
        let ours = mails::settle(unit.tx(), claimed, outcome, unit.now()).await?;
        unit.commit().await?;
        Ok(ours)
    }
}
