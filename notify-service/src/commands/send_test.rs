//! Send oneself a notification.

use std::sync::Arc;

use platform::work::Work;
use platform::{Error, telemetry};
use uuid::Uuid;

use super::deliver::deliver;
use crate::domain::notification::{Draft, Notification};
use crate::domain::telling;
use crate::pokes::Pokes;

/// Puts a test notification into the user's inbox and stream.
pub(crate) async fn send_test(
    work: &Work,
    user_id: Uuid,
    pokes: &Arc<Pokes>,
) -> Result<Notification, Error> {
    let mut unit = work.begin().await?;
    let tellings = telling::of_notification(user_id, unit.now(), Draft::test());
    let traceparent = telemetry::current_traceparent().unwrap_or_default();
    let entries = deliver(&mut unit, tellings, &traceparent, pokes).await?;
    unit.commit().await?;
    let entry = entries.into_iter().next();
    entry.ok_or_else(|| Error::internal(anyhow::anyhow!("a test notification makes one entry")))
}
