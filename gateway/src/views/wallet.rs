//! Money, accounts and transactions.

use jiff::Timestamp;
use proto::wallet::v1 as pb;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{filled, time_or_zero};

/// An amount of money.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"amount_minor": 1250, "currency": "INR"}))]
pub(crate) struct Money {
    /// Amount in the currency's minor unit (paise, cents).
    amount_minor: i64,
    /// ISO 4217 code.
    currency: String,
}

impl From<pb::Money> for Money {
    fn from(money: pb::Money) -> Self {
        Self {
            amount_minor: money.amount_minor,
            currency: money.currency,
        }
    }
}

impl From<Money> for pb::Money {
    fn from(money: Money) -> Self {
        Self {
            amount_minor: money.amount_minor,
            currency: money.currency,
        }
    }
}

fn money(money: Option<pb::Money>) -> Money {
    money.unwrap_or_default().into()
}

/// An account as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Account {
    /// UUIDv7.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    id: String,
    /// ISO 4217 code.
    #[schema(example = "INR")]
    currency: String,
    /// Balance from posted entries.
    posted: Money,
    /// Reserved by holds.
    pending: Money,
    /// What may be spent.
    available: Money,
    /// Rises with every change of a balance.
    version: i64,
    /// `open` or `frozen`.
    #[schema(example = "open")]
    status: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<pb::Account> for Account {
    fn from(account: pb::Account) -> Self {
        Self {
            id: account.id,
            currency: account.currency,
            posted: money(account.posted),
            pending: money(account.pending),
            available: money(account.available),
            version: account.version,
            status: account.status,
            created_at: time_or_zero(account.created_at),
        }
    }
}

/// The balances of one account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Balance {
    /// UUIDv7.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    account_id: String,
    /// ISO 4217 code.
    #[schema(example = "INR")]
    currency: String,
    /// Balance from posted entries.
    posted: Money,
    /// Reserved by holds.
    pending: Money,
    /// What may be spent.
    available: Money,
    /// Of two balances the one with the higher version holds.
    version: i64,
}

impl From<pb::Account> for Balance {
    fn from(account: pb::Account) -> Self {
        Self {
            account_id: account.id,
            currency: account.currency,
            posted: money(account.posted),
            pending: money(account.pending),
            available: money(account.available),
            version: account.version,
        }
    }
}

/// One side of a transaction.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Party {
    /// UUIDv7 of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    /// Public wallet handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "KX48210735")]
    handle: Option<String>,
    /// UUIDv7 of the account; only on one's own side.
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    /// Name of an external source or destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<String>,
}

impl From<Option<pb::Party>> for Party {
    fn from(party: Option<pb::Party>) -> Self {
        let party = party.unwrap_or_default();
        Self {
            user_id: filled(party.user_id),
            handle: filled(party.handle),
            account_id: filled(party.account_id),
            external: filled(party.external),
        }
    }
}

/// A movement of money as one side sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Transaction {
    /// UUIDv7.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    id: String,
    /// `deposit` or `transfer`.
    #[schema(example = "transfer")]
    kind: String,
    /// `pending`, `pending_review`, `posted`, `refused` or `cancelled`.
    #[schema(example = "posted")]
    status: String,
    /// `in` or `out`, from one's own side.
    #[schema(example = "out")]
    direction: String,
    amount: Money,
    from: Party,
    to: Party,
    #[schema(example = "Lunch")]
    description: String,
    #[schema(example = "food")]
    category: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// One's own posted balance right after the movement; absent when nothing was posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    balance_after: Option<Money>,
    /// Why it was refused; absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<pb::Transaction> for Transaction {
    fn from(transaction: pb::Transaction) -> Self {
        Self {
            id: transaction.id,
            kind: transaction.kind,
            status: transaction.status,
            direction: transaction.direction,
            amount: money(transaction.amount),
            from: transaction.from.into(),
            to: transaction.to.into(),
            description: transaction.description,
            category: transaction.category,
            created_at: time_or_zero(transaction.created_at),
            balance_after: transaction.balance_after.map(Money::from),
            reason: filled(transaction.reason),
        }
    }
}
