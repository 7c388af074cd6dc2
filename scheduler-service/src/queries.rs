//! Read-only views of the user's schedules.

use platform::{Error, page};
use uuid::Uuid;

use crate::commands::Sms;
use crate::domain::{MessageState, Phone, Schedule, Status};
use crate::storage::{self, messages::Listed};

/// A page of a list and where the next one begins; empty at the end.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_cursor: String,
}

impl<T> Page<T> {
    /// Of one row more than `limit`, which tells whether there is a next page.
    fn cut<C: serde::Serialize>(mut items: Vec<T>, limit: u64, position: impl Fn(&T) -> C) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = match items.last() {
            Some(last) if more => page::encode_cursor(&position(last)),
            _ => String::new(),
        };
        Self { items, next_cursor }
    }
}

/// One schedule of the user.
///
/// # Errors
/// `not_found`.
pub(crate) async fn get_schedule(
    sms: &Sms,
    user_id: Uuid,
    schedule_id: Uuid,
) -> Result<Schedule, Error> {
    storage::schedules::find(sms.work.db().reader(), user_id, schedule_id)
        .await?
        .ok_or_else(|| Error::not_found("schedule"))
}

/// The user's schedules, newest first.
pub(crate) async fn list_schedules(
    sms: &Sms,
    user_id: Uuid,
    status: Option<Status>,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Page<Schedule>, Error> {
    let reader = sms.work.db().reader();
    let rows = storage::schedules::page(reader, user_id, status, before, limit + 1).await?;
    Ok(Page::cut(rows, limit, |schedule| schedule.id))
}

/// The messages of a schedule of the user, in the order of the number.
///
/// # Errors
/// `not_found`.
pub(crate) async fn list_messages(
    sms: &Sms,
    user_id: Uuid,
    schedule_id: Uuid,
    state: Option<MessageState>,
    after: Option<Phone>,
    limit: u64,
) -> Result<Page<Listed>, Error> {
    let schedule = get_schedule(sms, user_id, schedule_id).await?;
    let reader = sms.work.db().reader();
    let after = after.as_ref().map(Phone::as_str);
    let rows = storage::messages::page(reader, schedule.set_id, state, after, limit + 1).await?;
    Ok(Page::cut(rows, limit, |message| message.phone.clone()))
}
