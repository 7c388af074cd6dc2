//! Ids: UUIDv7 (RFC 9562), so that they sort by the time at which they were made.

use jiff::Timestamp;
use uuid::{ContextV7, Uuid};

use crate::Error;

/// A new UUIDv7 of the given time. Ids made one after the other within a millisecond still rise.
pub fn new(now: Timestamp) -> Uuid {
    use std::sync::{LazyLock, Mutex, PoisonError};
    static CONTEXT: LazyLock<Mutex<ContextV7>> = LazyLock::new(|| Mutex::new(ContextV7::new()));
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    let context = CONTEXT.lock().unwrap_or_else(PoisonError::into_inner);
    Uuid::new_v7(uuid::Timestamp::from_unix(&*context, seconds, nanos))
}

/// Reads an id that came from outside.
///
/// # Errors
/// `invalid_argument` that names `field` when `text` is not a UUID in its hyphenated form.
pub fn parse(field: &str, text: &str) -> Result<Uuid, Error> {
    if text.len() == 36
        && let Ok(id) = Uuid::try_parse(text)
    {
        return Ok(id);
    }
    Err(Error::invalid_field(field, "must be a UUID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_instant_rise() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let ids: Vec<_> = (0..1000).map(|_| new(now)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn only_hyphenated_uuids_are_read() {
        let id = new(Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!(parse("id", &id.to_string()).unwrap(), id);
        for bad in [
            "",
            "x",
            &id.simple().to_string(),
            &format!("{{{id}}}"),
            &format!("urn:uuid:{id}"),
        ] {
            assert_eq!(parse("id", bad).unwrap_err().violations()[0].field, "id");
        }
    }
}
