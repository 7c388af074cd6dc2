//! Delete one notification.

use platform::Error;
use platform::work::Work;
use uuid::Uuid;

use crate::storage::{notifications, streams};

/// Deletes one of the user's notifications.
///
/// # Errors
/// `not_found` when the user has no such notification (any more).
pub(crate) async fn delete_notification(work: &Work, user_id: Uuid, id: Uuid) -> Result<(), Error> {
    let unit = work.begin().await?;
    streams::lock(unit.tx(), user_id).await?;
    let entry = notifications::find(unit.tx(), user_id, id).await?;
    let entry = entry.ok_or_else(|| Error::not_found("notification"))?;
    notifications::delete(unit.tx(), user_id, id).await?;
    streams::count(unit.tx(), user_id, if entry.read { 0 } else { -1 }, -1).await?;
    unit.commit().await
}
