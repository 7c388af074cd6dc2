//! The rules of identity: pure and synchronous. Time and randomness come in as arguments.

pub mod handle;
pub mod name;
pub mod password;
pub mod profile;
pub mod session;
pub mod throttle;
pub mod token;

/// Why a value that came from outside is refused, in words for the person who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);
