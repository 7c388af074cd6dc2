//! Deliver what was told: into the inbox and, numbered, into the stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform::work::UnitOfWork;
use platform::{Error, id, time};
use serde_json::json;
use uuid::Uuid;

use crate::domain::notification::Notification;
use crate::domain::telling::{Item, Telling, Topic};
use crate::pokes::Pokes;
use crate::storage::entities::stream_events;
use crate::storage::streams::Growth;
use crate::storage::{notifications, streams};

/// What a user is told, in the trace of the fact.
pub(crate) struct Told {
    pub(crate) telling: Telling,
    pub(crate) traceparent: String,
}

/// Writes what users are told and pokes their connections after the commit. Returns the new entries of the inbox.
///
/// However many facts it is about, it takes one statement for each table; the rows of users are locked in the order of their
/// ids, and no others are waited for afterwards.
pub(crate) async fn deliver(
    unit: &mut UnitOfWork,
    told: Vec<Told>,
    pokes: &Arc<Pokes>,
) -> Result<Vec<Notification>, Error> {
    let mut by_user: BTreeMap<Uuid, Vec<Told>> = BTreeMap::new();
    for told in told {
        if !told.telling.items.is_empty() {
            by_user.entry(told.telling.user_id).or_default().push(told);
        }
    }
    if by_user.is_empty() {
        return Ok(Vec::new());
    }
    let growths: Vec<Growth> = by_user.iter().map(growth).collect();
    let heads = streams::advance(unit.tx(), &growths).await?;
    // To the microsecond, as the database keeps it: what is told now reads the same later.
    let now = time::from_micros(time::to_micros(unit.now()));
    let (mut events, mut entries) = (Vec::new(), Vec::new());
    for (growth, (user_id, told)) in growths.iter().zip(by_user) {
        let last = heads.get(&user_id).copied().ok_or_else(|| {
            Error::internal(anyhow::anyhow!("the stream of {user_id} did not grow"))
        })?;
        let items = told.into_iter().flat_map(|told| {
            let Telling { at, items, .. } = told.telling;
            let trace = told.traceparent;
            items.into_iter().map(move |item| (at, trace.clone(), item))
        });
        for (seq, (at, traceparent, item)) in (last - growth.numbers + 1..).zip(items) {
            let (topic, event, data) = match item {
                Item::Event { topic, event, data } => (topic, event, data),
                Item::Notification(draft) => {
                    let entry = draft.into_entry(id::new(now), now);
                    let data = json!(entry);
                    entries.push((user_id, entry));
                    (Topic::Notification, "notification.created", data)
                }
            };
            events.push(stream_events::Model {
                user_id,
                seq,
                topic: topic.as_str().to_owned(),
                event: event.to_owned(),
                at: time::to_micros(at),
                stored_at: time::to_micros(now),
                data_json: data.to_string(),
                traceparent,
            });
        }
    }
    notifications::insert(unit.tx(), &entries).await?;
    streams::append(unit.tx(), events).await?;
    let pokes = Arc::clone(pokes);
    unit.on_commit(move || pokes.mark(growths.into_iter().map(|growth| growth.user_id)));
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn growth((user_id, told): (&Uuid, &Vec<Told>)) -> Growth {
    let items = || told.iter().flat_map(|told| &told.telling.items);
    let entries = items().filter(|item| matches!(item, Item::Notification(_)));
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Growth {
        user_id: *user_id,
        numbers: number(items().count()),
        entries: number(entries.count()),
    }
}
