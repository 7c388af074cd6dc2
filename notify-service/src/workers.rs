//! What goes on in the background.

use std::sync::Arc;
use std::time::Duration;

use platform::Tasks;
use platform::work::Work;
use tokio::sync::Notify;

use crate::commands::send_mail::Mailer;
use crate::commands::send_mails;
use crate::commands::trim::{Retention, trim};

/// Sends mails: at once when one is queued, and when one is due again.
pub(crate) fn send_mails(mailer: Mailer, wake: Arc<Notify>, tasks: &Tasks) {
    let stop = tasks.token();
    tasks.spawn_critical("notify-mail", send_mails::run(Arc::new(mailer), wake, stop));
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
