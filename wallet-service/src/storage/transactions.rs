//! Transactions and their entries: written once, never changed.

use jiff::Timestamp;
use platform::{Error, time};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, IntoActiveModel};

use super::accounts::parse_currency;
use super::entities::{entry, transaction};
use crate::domain::{AccountId, Entry, Money, TransactionId, UserId};

/// What kind of movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionKind {
    /// From the world outside to a user.
    Deposit,
    /// From user to user.
    Transfer,
}

impl TransactionKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 2] = [Self::Deposit, Self::Transfer];

    /// Stable name; also that of the method whose idempotency keys stand for such transactions.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Transfer => "transfer",
        }
    }
}

/// Every status that a transaction can have.
pub(crate) const STATUSES: [&str; 5] = [
    "pending",
    "pending_review",
    "posted",
    "refused",
    "cancelled",
];

/// One side of a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Side {
    /// The user; `None` for the world outside, or when nobody answered to the name.
    pub(crate) user: Option<UserId>,
    /// The account, where known.
    pub(crate) account: Option<AccountId>,
    /// Its posted balance right after, in minor units; `None` when nothing was posted.
    pub(crate) balance_minor: Option<i64>,
}

/// A transaction with both of its sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionRecord {
    /// UUIDv7.
    pub(crate) id: TransactionId,
    /// What kind of movement.
    pub(crate) kind: TransactionKind,
    /// One of `pending`, `pending_review`, `posted`, `refused`, `cancelled`.
    pub(crate) status: String,
    /// How much.
    pub(crate) amount: Money,
    /// Who gives.
    pub(crate) from: Side,
    /// Who takes.
    pub(crate) to: Side,
    /// Name of the external source.
    pub(crate) source: Option<String>,
    /// What the payer wrote.
    pub(crate) description: String,
    /// What it was for.
    pub(crate) category: String,
    /// Why it was refused.
    pub(crate) reason: Option<String>,
    /// Scope of the idempotency key that it was asked for with.
    pub(crate) request_scope: String,
    /// Text of that key.
    pub(crate) request_key: String,
    /// When it was decided.
    pub(crate) created_at: Timestamp,
}

/// Writes transactions.
pub(crate) async fn insert(
    tx: &impl ConnectionTrait,
    records: impl IntoIterator<Item = &TransactionRecord>,
) -> Result<(), Error> {
    let rows: Vec<_> = records
        .into_iter()
        .map(|record| row(record).into_active_model())
        .collect();
    if !rows.is_empty() {
        transaction::Entity::insert_many(rows)
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// Writes entries.
pub(crate) async fn insert_entries(
    tx: &impl ConnectionTrait,
    entries: impl IntoIterator<Item = &Entry>,
    now: Timestamp,
) -> Result<(), Error> {
    let rows: Vec<_> = entries
        .into_iter()
        .map(|entry| entry::ActiveModel {
            account_id: Set(entry.account.0),
            version: Set(entry.version),
            transaction_id: Set(entry.transaction.0),
            amount_minor: Set(entry.amount_minor),
            balance_minor: Set(entry.balance_minor),
            created_at: Set(time::to_micros(now)),
        })
        .collect();
    if !rows.is_empty() {
        entry::Entity::insert_many(rows)
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

fn row(record: &TransactionRecord) -> transaction::Model {
    transaction::Model {
        id: record.id.0,
        kind: record.kind.as_str().to_owned(),
        status: record.status.clone(),
        currency: record.amount.currency.code().to_owned(),
        amount_minor: record.amount.minor,
        from_user_id: record.from.user.map(|user| user.0),
        from_account_id: record.from.account.map(|account| account.0),
        from_balance_minor: record.from.balance_minor,
        to_user_id: record.to.user.map(|user| user.0),
        to_account_id: record.to.account.map(|account| account.0),
        to_balance_minor: record.to.balance_minor,
        source: record.source.clone(),
        description: record.description.clone(),
        category: record.category.clone(),
        reason: record.reason.clone(),
        request_scope: record.request_scope.clone(),
        request_key: record.request_key.clone(),
        created_at: time::to_micros(record.created_at),
    }
}

pub(super) fn record(row: transaction::Model) -> Result<TransactionRecord, Error> {
    let kind = match row.kind.as_str() {
        "deposit" => TransactionKind::Deposit,
        "transfer" => TransactionKind::Transfer,
        other => {
            return Err(Error::internal(anyhow::anyhow!(
                "stored kind {other:?} is unknown"
            )));
        }
    };
    Ok(TransactionRecord {
        id: TransactionId(row.id),
        kind,
        status: row.status,
        amount: Money {
            minor: row.amount_minor,
            currency: parse_currency(&row.currency)?,
        },
        from: Side {
            user: row.from_user_id.map(UserId),
            account: row.from_account_id.map(AccountId),
            balance_minor: row.from_balance_minor,
        },
        to: Side {
            user: row.to_user_id.map(UserId),
            account: row.to_account_id.map(AccountId),
            balance_minor: row.to_balance_minor,
        },
        source: row.source,
        description: row.description,
        category: row.category,
        reason: row.reason,
        request_scope: row.request_scope,
        request_key: row.request_key,
        created_at: time::from_micros(row.created_at),
    })
}
