//! Domain words to error kinds and stable reasons.

use platform::Error;

use crate::domain::position::PositionError;

/// What a caller is told about a position; `field` is where it came from.
pub(crate) fn position_error(field: &str, error: PositionError) -> Error {
    match error {
        PositionError::Lost { .. } => Error::conflict("stream_position_lost", error.to_string()),
        PositionError::Ahead { .. } | PositionError::Negative => {
            Error::invalid_field(field, error.to_string())
        }
    }
}
