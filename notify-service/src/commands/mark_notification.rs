//! Mark one notification as read or unread.

use platform::Error;
use platform::work::Work;
use uuid::Uuid;

use crate::domain::notification::Notification;
use crate::storage::{notifications, streams};

/// Sets the read state of one of the user's notifications; setting it twice changes nothing.
///
/// # Errors
/// `not_found` when the user has no such notification.
pub(crate) async fn mark_notification(
    work: &Work,
    user_id: Uuid,
    id: Uuid,
    read: bool,
) -> Result<Notification, Error> {
    let unit = work.begin().await?;
    streams::lock(unit.tx(), user_id).await?;
    if notifications::mark(unit.tx(), user_id, id, read).await? {
        streams::count(unit.tx(), user_id, if read { -1 } else { 1 }, 0).await?;
    }
    let entry = notifications::find(unit.tx(), user_id, id).await?;
    let entry = entry.ok_or_else(|| Error::not_found("notification"))?;
    unit.commit().await?;
    Ok(entry)
}
