//! One use case a file. What moves money goes through the [`Poster`].

mod batch;
mod deposit;
#[cfg(test)]
mod fault_tests;
mod open_account;
mod poster;
mod register_payee;
mod transfer_funds;
mod verify_payee;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform::Error;
use platform::work::{Answer, RequestKey, Work};
use tokio::time::Instant;

pub(crate) use deposit::Deposit;
pub(crate) use poster::{Poster, PosterLimits};
pub(crate) use register_payee::register_payee;
pub(crate) use transfer_funds::TransferFunds;
pub(crate) use verify_payee::verify_payee;

use crate::domain::{AccountId, Currency};
use crate::providers::Funding;
use crate::queries::TransactionView;
use crate::storage::transactions::TransactionKind;

/// Methods whose idempotency keys stand for one transaction each. The books are searched by these names.
pub(crate) const DEPOSIT: &str = TransactionKind::Deposit.as_str();
/// See [`DEPOSIT`].
pub(crate) const TRANSFER: &str = TransactionKind::Transfer.as_str();

/// Writes the reply that a retry gets again.
pub(crate) type Encode<T> = fn(&T) -> Vec<u8>;

/// What came of a command, or of the first one under its key.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The encoded reply, or the refusal.
    pub(crate) answer: Answer,
    /// Whether an earlier command was answered so.
    pub(crate) replayed: bool,
}

/// What comes with a command that is done at most once.
#[derive(Debug)]
pub(crate) struct Ticket<T = TransactionView> {
    /// Under which it is done once.
    pub(crate) key: RequestKey,
    /// How the answer is written down.
    pub(crate) encode: Encode<T>,
    /// Trace of the request, for the events.
    pub(crate) traceparent: Option<String>,
    /// Until when the caller waits.
    pub(crate) deadline: Instant,
}

/// The use cases that change something. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Commands {
    work: Work,
    poster: Poster,
    funding: Funding,
    /// Accounts of the world outside that are known to be open: they are opened once and stay.
    external: Arc<Mutex<HashMap<(String, Currency), AccountId>>>,
}

impl Commands {
    pub(crate) fn new(work: Work, poster: Poster, funding: Funding) -> Self {
        Self {
            work,
            poster,
            funding,
            external: Arc::default(),
        }
    }
}

/// The user has registered, but the event that opens the account is still on its way.
fn account_not_ready() -> Error {
    Error::unavailable("account_not_ready", "the account is about to be opened")
        .with_retry_after(Duration::from_secs(1))
}
