//! What goes on in the background.

use std::sync::Arc;
use std::time::Duration;

use platform::Tasks;
use platform::work::Work;
use tokio::sync::Notify;

use crate::commands::send_mails::Mailer;
use crate::commands::trim::{Retention, trim};
use crate::storage::mails;

/// The mail worker looks at least this often.
const MAIL_IDLE: Duration = Duration::from_secs(30);
/// Pause after the database failed.
const MAIL_PAUSE: Duration = Duration::from_secs(1);

/// Sends mails: at once when one is queued, and when one is due again.
pub(crate) fn send_mails(mailer: Mailer, wake: Arc<Notify>, tasks: &Tasks) {
    let token = tasks.token();
    tasks.spawn_critical("notify-mail", async move {
        let clock = Arc::clone(mailer.work.clock());
        while !token.is_cancelled() {
            let next = match mailer.send_due().await {
                Ok(true) => continue,
                Ok(false) => mails::next_due(mailer.work.db().reader())
                    .await
                    .map_err(Into::into),
                Err(error) => Err(error),
            };
            let latest = clock.now() + MAIL_IDLE;
            let at = match next {
                Ok(due) => due.map_or(latest, |due| due.min(latest)),
                Err(error) => {
                    tracing::warn!(%error, "mails could not be sent");
                    clock.now() + MAIL_PAUSE
                }
            };
            tokio::select! {
                () = token.cancelled() => return,
                () = wake.notified() => {}
                () = clock.sleep_until(at) => {}
            }
        }
    });
}

/// Removes what need not be kept, every so often, in steps with a breath between them.
pub(crate) fn trim_old(work: Work, retention: Retention, every: Duration, tasks: &Tasks) {
    let token = tasks.token();
    tasks.spawn("notify-trim", async move {
        while !token.is_cancelled() {
            let more = trim(&work, &retention).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what is old could not be removed");
                false
            });
            let pause = if more {
                Duration::from_millis(20)
            } else {
                every
            };
            tokio::select! {
                () = token.cancelled() => return,
                () = work.clock().sleep_until(work.now() + pause) => {}
            }
        }
    });
}
