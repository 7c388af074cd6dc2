//! How services call each other.

mod balance;
pub mod client;
pub mod server;
mod timeout;
pub mod tls;
mod upstream;

use tokio::time::Instant;
use tonic::metadata::MetadataValue;

/// How long a call may take when its caller says nothing else. Streams: until their first answer.
pub const DEFAULT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// Unread bytes that one connection may hold. Much more than a stream may (64 KiB), so that those who read slowly do
/// not stop the others.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Reply metadata that tells that the work was done before and this is its stored answer.
pub const REPLAYED: &str = "idempotency-replayed";

/// When the caller stops waiting; stands in the extensions of every request that a [`server::Server`] lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

tokio::task_local! {
    /// The deadline of the call that is being answered: calls that it makes do not outlive it.
    static CURRENT_DEADLINE: Deadline;
}

/// Marks an answer as stored before.
pub fn replayed<T>(mut response: tonic::Response<T>) -> tonic::Response<T> {
    response
        .metadata_mut()
        .insert(REPLAYED, MetadataValue::from_static("true"));
    response
}

/// Marks a refusal as stored before.
pub fn replayed_status(mut status: tonic::Status) -> tonic::Status {
    status
        .metadata_mut()
        .insert(REPLAYED, MetadataValue::from_static("true"));
    status
}

/// Whether an answer or a refusal was stored before.
pub fn is_replayed(metadata: &tonic::metadata::MetadataMap) -> bool {
    metadata.get(REPLAYED).is_some_and(|value| value == "true")
}

/// When the caller of the call that is being answered stops waiting; `None` outside of a call.
pub(crate) fn current_deadline() -> Option<Instant> {
    CURRENT_DEADLINE.try_with(|deadline| deadline.0).ok()
}

fn deadline_exceeded() -> crate::Error {
    crate::Error::new(
        crate::Kind::Timeout,
        "deadline_exceeded",
        "no answer in time",
    )
}

#[cfg(test)]
mod tests;
