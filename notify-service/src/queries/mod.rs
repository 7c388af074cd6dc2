//! Read-only views.

use platform::work::Work;
use platform::{Error, page};
use uuid::Uuid;

use crate::domain::notification::Notification;
use crate::domain::position::Extent;
use crate::error::position_error;
use crate::storage::entities::stream_events;
use crate::storage::{acknowledgements, notifications, streams};

/// A page of a list and the cursor of the next, empty on the last.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_cursor: String,
}

/// A user's inbox, newest first; `unread` keeps only unread (true) or read (false) entries.
///
/// # Errors
/// `invalid_argument` on `limit` or `cursor`.
pub(crate) async fn list_notifications(
    work: &Work,
    user_id: Uuid,
    limit: i32,
    cursor: &str,
    unread: Option<bool>,
) -> Result<Page<Notification>, Error> {
    let limit = page::limit(limit)?;
    let before: Option<Uuid> = page::decode_cursor(cursor)?;
    let read = unread.map(|unread| !unread);
    // One more than asked for tells whether there is a next page.
    let mut items =
        notifications::list(work.db().reader(), user_id, before, read, limit + 1).await?;
    let more = items.len() as u64 > limit;
    items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = items.last().filter(|_| more);
    let next_cursor = last.map_or_else(String::new, |last| page::encode_cursor(&last.id));
    Ok(Page { items, next_cursor })
}

/// How many of a user's notifications are unread.
pub(crate) async fn unread_count(work: &Work, user_id: Uuid) -> Result<i64, Error> {
    Ok(streams::read(work.db().reader(), user_id).await?.1)
}

/// The extent of a user's stream, and the number after which a device goes on.
///
/// # Errors
/// `stream_position_lost` when that would leave a gap; `invalid_argument` on `after` when it is no number of the stream.
pub(crate) async fn start_of(
    work: &Work,
    user_id: Uuid,
    device: &str,
    after: Option<i64>,
) -> Result<(Extent, i64), Error> {
    let reader = work.db().reader();
    let acknowledged = match after {
        Some(_) => None,
        None => acknowledgements::find(reader, user_id, device).await?,
    };
    // Read after the acknowledgement, which never is ahead of the head.
    let (extent, _) = streams::read(reader, user_id).await?;
    let start = extent
        .start(after, acknowledged)
        .map_err(|error| position_error("after", error))?;
    Ok((extent, start))
}

/// The events of a user's stream after a number, in order, at most `limit`.
pub(crate) async fn events_after(
    work: &Work,
    user_id: Uuid,
    after: i64,
    limit: u64,
) -> Result<Vec<stream_events::Model>, Error> {
    Ok(streams::events_after(work.db().reader(), user_id, after, limit).await?)
}
