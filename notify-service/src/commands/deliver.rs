//! Deliver what was told: into the inbox and, numbered, into the stream.

use std::sync::Arc;

use platform::work::UnitOfWork;
use platform::{Error, id, time};
use serde_json::json;
use uuid::Uuid;

use crate::domain::notification::Notification;
use crate::domain::telling::{Item, Telling, Topic};
use crate::pokes::Pokes;
use crate::storage::entities::stream_events;
use crate::storage::{notifications, streams};

/// Writes what every user is told and pokes their connections after the commit. Returns the new entries of the inbox.
///
/// Streams are locked in the order of the user ids. That is the order of one event only: a batch of events locks all its
/// streams beforehand, in `Facts::prepare`.
pub(crate) async fn deliver(
    unit: &mut UnitOfWork,
    mut tellings: Vec<Telling>,
    traceparent: &str,
    pokes: &Arc<Pokes>,
) -> Result<Vec<Notification>, Error> {
    tellings.retain(|telling| !telling.items.is_empty());
    tellings.sort_by_key(|telling| telling.user_id);
    let users: Vec<Uuid> = tellings.iter().map(|telling| telling.user_id).collect();
    // To the microsecond, as the database keeps it: what is told now reads the same later.
    let now = time::from_micros(time::to_micros(unit.now()));
    let (mut events, mut entries) = (Vec::new(), Vec::new());
    for telling in tellings {
        let count = i64::try_from(telling.items.len()).map_err(Error::internal)?;
        let unread = telling
            .items
            .iter()
            .filter(|item| is_notification(item))
            .count();
        let unread = i64::try_from(unread).map_err(Error::internal)?;
        let last = streams::advance(unit.tx(), telling.user_id, count, unread).await?;
        for (seq, item) in (last - count + 1..).zip(telling.items) {
            let (topic, event, data) = match item {
                Item::Event { topic, event, data } => (topic, event, data),
                Item::Notification(draft) => {
                    let entry = draft.into_entry(id::new(now), now);
                    let data = json!(entry);
                    entries.push((telling.user_id, entry));
                    (Topic::Notification, "notification.created", data)
                }
            };
            events.push(stream_events::Model {
                user_id: telling.user_id,
                seq,
                topic: topic.as_str().to_owned(),
                event: event.to_owned(),
                at: time::to_micros(telling.at),
                stored_at: time::to_micros(now),
                data_json: data.to_string(),
                traceparent: traceparent.to_owned(),
            });
        }
    }
    notifications::insert(unit.tx(), &entries).await?;
    streams::append(unit.tx(), events).await?;
    let pokes = Arc::clone(pokes);
    unit.on_commit(move || pokes.mark(users));
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn is_notification(item: &Item) -> bool {
    matches!(item, Item::Notification(_))
}
