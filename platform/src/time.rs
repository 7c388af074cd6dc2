//! Times on the wire (protobuf) and in the database (unix microseconds).

use jiff::Timestamp;

use crate::Error;

/// To protobuf.
pub fn to_proto(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// From protobuf; an absent time stays absent.
///
/// # Errors
/// `invalid_argument` that names `field` when the time is out of range.
pub fn from_proto(
    field: &str,
    at: &Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, Error> {
    let Some(at) = at else { return Ok(None) };
    Timestamp::new(at.seconds, at.nanos)
        .map(Some)
        .map_err(|_| Error::invalid_field(field, "is not a time between the years -9999 and 9999"))
}

/// To unix microseconds, the form that times have in every database.
pub fn to_micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// From unix microseconds. A number that is no time becomes the nearest one that is.
pub fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
