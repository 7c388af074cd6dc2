//! What clients see: the JSON forms of what services answer.

pub(crate) mod identity;
pub(crate) mod notify;
pub(crate) mod scheduler;
pub(crate) mod wallet;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The entries.
    pub(crate) data: Vec<T>,
    /// Send it as `cursor` to get the next page; null on the last one.
    pub(crate) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of what a service answered; an empty cursor means the last one.
    pub(crate) fn new<M>(entries: Vec<M>, next_cursor: String, view: impl FnMut(M) -> T) -> Self {
        Self {
            data: entries.into_iter().map(view).collect(),
            next_cursor: filled(next_cursor),
        }
    }
}

/// Text that protobuf leaves empty when there is none.
pub(crate) fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A time that may be absent.
pub(crate) fn time(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
}

/// A time that is always there; as everywhere in protobuf, nothing stands for the beginning of 1970.
pub(crate) fn time_or_zero(at: Option<prost_types::Timestamp>) -> Timestamp {
    time(at).unwrap_or(Timestamp::UNIX_EPOCH)
}
