//! Queue a mail that a fact asks for.

use std::sync::Arc;

use platform::Error;
use platform::work::UnitOfWork;
use tokio::sync::Notify;

use crate::storage::mails::{self, NewMail};

/// Queues the mail, once for each event, and wakes the worker after the commit. The secret stays sealed.
pub(crate) async fn queue_mail(
    unit: &mut UnitOfWork,
    mail: NewMail,
    wake: &Arc<Notify>,
) -> Result<(), Error> {
    mails::insert(unit.tx(), mail, unit.now()).await?;
    let wake = Arc::clone(wake);
    unit.on_commit(move || wake.notify_one());
    Ok(())
}
