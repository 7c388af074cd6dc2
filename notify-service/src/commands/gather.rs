//! Gather what the facts of a batch say, and write it at once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use platform::Error;
use platform::work::UnitOfWork;
use uuid::Uuid;

use super::deliver::{Told, deliver};
use crate::domain::movement::{Person, Side, Transfer};
use crate::domain::telling::{self, Telling};
use crate::pokes::Pokes;
use crate::storage::recipients;

/// What the facts of a batch have said so far.
#[derive(Default)]
struct Gathered {
    /// Who is known, with the version of that.
    people: BTreeMap<Uuid, (Person, i64)>,
    /// Whose names came with this batch.
    named: BTreeSet<Uuid>,
    told: Vec<Told>,
}

impl Gathered {
    /// Whether that is news.
    fn learn(&mut self, person: Person, version: i64) -> bool {
        match self.people.entry(person.user_id) {
            Entry::Occupied(known) if known.get().1 >= version => false,
            Entry::Occupied(mut known) => {
                known.insert((person, version));
                true
            }
            Entry::Vacant(place) => {
                place.insert((person, version));
                true
            }
        }
    }
}

/// Looks up who is called what, of all the users whom the facts of a batch are about.
pub(crate) async fn look_up(unit: &mut UnitOfWork, users: BTreeSet<Uuid>) -> Result<(), Error> {
    if users.is_empty() {
        return Ok(());
    }
    let known = recipients::find(unit.tx(), users.into_iter().collect()).await?;
    let gathered: &mut Gathered = unit.gathered();
    for (person, version) in known {
        gathered.learn(person, version);
    }
    Ok(())
}

/// What a user is called, unless something newer is known.
pub(crate) fn name(unit: &mut UnitOfWork, person: Person, version: i64) {
    let gathered: &mut Gathered = unit.gathered();
    let user_id = person.user_id;
    if gathered.learn(person, version) {
        gathered.named.insert(user_id);
    }
}

/// What users are told.
pub(crate) fn tell(unit: &mut UnitOfWork, tellings: Vec<Telling>, traceparent: &str) {
    let gathered: &mut Gathered = unit.gathered();
    gathered
        .told
        .extend(tellings.into_iter().map(|telling| Told {
            telling,
            traceparent: traceparent.to_owned(),
        }));
}

/// What each side of a transfer is told, by the handle of the other.
///
/// # Errors
/// `recipient_unknown` (unavailable) while the event that tells who one of them is has not arrived.
pub(crate) fn tell_transfer(
    unit: &mut UnitOfWork,
    transfer: &Transfer,
    traceparent: &str,
) -> Result<(), Error> {
    let people = &unit.gathered::<Gathered>().people;
    let (from, to) = (
        person(people, &transfer.from)?,
        person(people, &transfer.to)?,
    );
    let tellings = telling::of_transfer(transfer, from, to);
    tell(unit, tellings, traceparent);
    Ok(())
}

fn person<'a>(
    people: &'a BTreeMap<Uuid, (Person, i64)>,
    side: &Side,
) -> Result<Option<&'a Person>, Error> {
    let Some(user_id) = side.user_id else {
        return Ok(None);
    };
    let known = people.get(&user_id).map(|(person, _)| Some(person));
    known.ok_or_else(|| {
        let message = format!("user {user_id} is not known yet");
        Error::unavailable("recipient_unknown", message)
    })
}

/// Writes what was gathered. Rows are locked table by table and in the order of their ids, and by nothing before, so that
/// replicas at work on the same users wait for each other, but never in a circle.
pub(crate) async fn write(unit: &mut UnitOfWork, pokes: &Arc<Pokes>) -> Result<(), Error> {
    let Gathered {
        mut people,
        named,
        told,
    } = std::mem::take(unit.gathered());
    let named = named.iter().filter_map(|user_id| people.remove(user_id));
    recipients::put(unit.tx(), &named.collect::<Vec<_>>()).await?;
    deliver(unit, told, pokes).await?;
    Ok(())
}
