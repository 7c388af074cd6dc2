//! Send oneself a notification.

use std::sync::Arc;

use platform::work::Work;
use platform::{Error, Kind, telemetry, time};
use uuid::Uuid;

use super::deliver::{Told, deliver};
use crate::domain::notification::{Draft, Notification};
use crate::domain::{allowance, telling};
use crate::pokes::Pokes;
use crate::storage::streams;

/// Puts a test notification into the user's inbox and stream; `most` in a minute.
///
/// # Errors
/// `too_many_tests` (rate limited).
pub(crate) async fn send_test(
    work: &Work,
    user_id: Uuid,
    most: u32,
    pokes: &Arc<Pokes>,
) -> Result<Notification, Error> {
    let mut unit = work.begin().await?;
    // Under the lock of the row, so that tests asked for at the same time count too.
    let used = streams::lock_or_make(unit.tx(), user_id).await?.tests_until;
    let until = allowance::take(most, used, time::to_micros(unit.now())).map_err(|wait| {
        let message = "too many test notifications; try again later";
        Error::new(Kind::RateLimited, "too_many_tests", message).with_retry_after(wait)
    })?;
    let tellings = telling::of_notification(user_id, unit.now(), Draft::test());
    let traceparent = telemetry::current_traceparent().unwrap_or_default();
    let told = tellings.into_iter().map(|telling| Told {
        telling,
        traceparent: traceparent.clone(),
    });
    let entries = deliver(&mut unit, told.collect(), pokes).await?;
    streams::set_tests_until(unit.tx(), user_id, until).await?;
    unit.commit().await?;
    let entry = entries.into_iter().next();
    entry.ok_or_else(|| Error::internal(anyhow::anyhow!("a test notification makes one entry")))
}
