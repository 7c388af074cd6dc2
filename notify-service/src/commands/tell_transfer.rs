//! Tell both sides of a transfer.

use std::collections::HashMap;
use std::sync::Arc;

use platform::Error;
use platform::work::UnitOfWork;
use uuid::Uuid;

use super::deliver::deliver;
use crate::domain::movement::{Person, Side, Transfer};
use crate::domain::telling;
use crate::pokes::Pokes;
use crate::storage::recipients;

/// Tells each side of its transfer, by the handle of the other.
///
/// # Errors
/// `recipient_unknown` (unavailable) while the event that tells who one of them is has not arrived.
pub(crate) async fn tell_transfer(
    unit: &mut UnitOfWork,
    transfer: &Transfer,
    traceparent: &str,
    pokes: &Arc<Pokes>,
) -> Result<(), Error> {
    let users: Vec<Uuid> = [&transfer.from, &transfer.to]
        .into_iter()
        .filter_map(|side| side.user_id)
        .collect();
    let known = recipients::find(unit.tx(), &users).await?;
    let (from, to) = (
        person(&known, &transfer.from)?,
        person(&known, &transfer.to)?,
    );
    deliver(
        unit,
        telling::of_transfer(transfer, from, to),
        traceparent,
        pokes,
    )
    .await?;
    Ok(())
}

fn person<'a>(known: &'a HashMap<Uuid, Person>, side: &Side) -> Result<Option<&'a Person>, Error> {
    let Some(user_id) = side.user_id else {
        return Ok(None);
    };
    known.get(&user_id).map(Some).ok_or_else(|| {
        Error::unavailable(
            "recipient_unknown",
            format!("user {user_id} is not known yet"),
        )
    })
}
