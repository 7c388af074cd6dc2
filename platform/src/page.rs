//! Cursor paging: opaque cursors, bounded pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Rows on a page when the caller does not say.
pub const DEFAULT_LIMIT: u64 = 20;
/// Most rows on a page.
pub const MAX_LIMIT: u64 = 100;
/// Longest cursor that is read, in bytes.
const MAX_CURSOR: usize = 1024;

/// The number of rows that a caller asked for; 0 means [`DEFAULT_LIMIT`].
///
/// # Errors
/// `invalid_argument` that names `limit` outside 1 to [`MAX_LIMIT`].
pub fn limit(asked: i32) -> Result<u64, Error> {
    match u64::try_from(asked) {
        Ok(0) => Ok(DEFAULT_LIMIT),
        Ok(n) if n <= MAX_LIMIT => Ok(n),
        _ => Err(Error::invalid_field(
            "limit",
            format!("must be between 1 and {MAX_LIMIT}"),
        )),
    }
}

/// Writes the position after the last row of a page.
pub fn encode_cursor(position: &impl Serialize) -> String {
    // A position is a tuple of ids and numbers, which always has a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).unwrap_or_default())
}

/// Reads a cursor that came back; empty means the first page.
///
/// # Errors
/// `invalid_argument` that names `cursor` when it is none of ours.
pub fn decode_cursor<T: DeserializeOwned>(cursor: &str) -> Result<Option<T>, Error> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::invalid_field("cursor", "is not a cursor of this list");
    if cursor.len() > MAX_CURSOR {
        return Err(invalid());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let position = (17_i64, uuid::Uuid::nil());
        let cursor = encode_cursor(&position);
        assert_eq!(
            decode_cursor::<(i64, uuid::Uuid)>(&cursor).unwrap(),
            Some(position)
        );
        assert_eq!(decode_cursor::<i64>("").unwrap(), None);
    }

    #[test]
    fn a_foreign_cursor_is_refused_by_name() {
        for bad in ["%%%", "AAAA", &"A".repeat(5000), &encode_cursor(&"text")] {
            let error = decode_cursor::<i64>(bad).unwrap_err();
            assert_eq!(error.violations()[0].field, "cursor");
        }
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(limit(0).unwrap(), DEFAULT_LIMIT);
        assert_eq!(limit(100).unwrap(), 100);
        assert!(limit(101).is_err());
        assert!(limit(-1).is_err());
    }
}
