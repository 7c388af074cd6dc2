//! Mark all notifications as read.

use platform::Error;
use platform::work::Work;
use uuid::Uuid;

use crate::storage::{notifications, streams};

/// Rows in one transaction, so that an old inbox blocks nobody.
const BATCH: u64 = 1000;

/// Marks everything that was unread when the call began; returns how much that was.
pub(crate) async fn mark_all_read(work: &Work, user_id: Uuid) -> Result<i64, Error> {
    let (_, unread) = streams::read(work.db().reader(), user_id).await?;
    // What arrives meanwhile is not chased: one round more than there was to do at the start is the bound.
    let rounds = u64::try_from(unread).unwrap_or(0) / BATCH + 1;
    let mut marked = 0;
    for _ in 0..rounds {
        let unit = work.begin().await?;
        streams::lock(unit.tx(), user_id).await?;
        let ids = notifications::unread_ids(unit.tx(), user_id, BATCH).await?;
        if ids.is_empty() {
            break;
        }
        let changed = notifications::mark_read(unit.tx(), user_id, &ids).await?;
        let changed = i64::try_from(changed).map_err(Error::internal)?;
        streams::count(unit.tx(), user_id, -changed, 0).await?;
        unit.commit().await?;
        marked += changed;
    }
    Ok(marked)
}
