//! Movements of money, as the wallet tells of them.

use jiff::Timestamp;
use uuid::Uuid;

use super::money::Money;

/// One user's side of a movement, as it stood right after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Side {
    /// The account that was debited or credited.
    pub(crate) account_id: Uuid,
    /// Its owner; `None` for an account of the house, which nobody watches.
    pub(crate) user_id: Option<Uuid>,
    /// Version of the account after the movement.
    pub(crate) version: i64,
    /// Balance from posted entries, in minor units.
    pub(crate) posted_minor: i64,
    /// Reserved by holds, in minor units.
    pub(crate) pending_minor: i64,
    /// What the owner may spend, in minor units.
    pub(crate) available_minor: i64,
}

/// Money came in from outside.
#[derive(Debug, Clone)]
pub(crate) struct Deposit {
    pub(crate) transaction_id: Uuid,
    pub(crate) amount: Money,
    pub(crate) to: Side,
    /// When it happened.
    pub(crate) at: Timestamp,
}

/// Money moved between two accounts.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    pub(crate) transaction_id: Uuid,
    pub(crate) amount: Money,
    pub(crate) from: Side,
    pub(crate) to: Side,
    pub(crate) category: String,
    /// When it happened.
    pub(crate) at: Timestamp,
}

/// A transfer that a rule refused; nothing moved.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) transaction_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) amount: Money,
    /// Stable reason in snake case, e.g. `insufficient_funds`.
    pub(crate) reason: String,
    /// When it happened.
    pub(crate) at: Timestamp,
}

/// Somebody whom others know by a handle.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Person {
    pub(crate) user_id: Uuid,
    pub(crate) handle: String,
}
