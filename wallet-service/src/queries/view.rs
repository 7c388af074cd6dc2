//! What a viewer gets to see.

use jiff::Timestamp;

use crate::domain::{AccountId, Money, TransactionId, UserId};
use crate::storage::accounts::Opened;
use crate::storage::history::Direction;
use crate::storage::transactions::{Side, TransactionRecord};

/// An account as its owner sees it.
#[derive(Debug, Clone)]
pub(crate) struct AccountView {
    pub(crate) id: AccountId,
    pub(crate) posted: Money,
    pub(crate) pending: Money,
    pub(crate) available: Money,
    pub(crate) version: i64,
    pub(crate) status: &'static str,
    pub(crate) created_at: Timestamp,
}

/// Somebody on one side of a transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartyView {
    pub(crate) user: Option<UserId>,
    pub(crate) handle: Option<String>,
    /// Only on the viewer's own side.
    pub(crate) account: Option<AccountId>,
    pub(crate) external: Option<String>,
}

/// A transaction from one side.
#[derive(Debug, Clone)]
pub(crate) struct TransactionView {
    pub(crate) id: TransactionId,
    pub(crate) kind: &'static str,
    pub(crate) status: String,
    pub(crate) direction: Direction,
    pub(crate) amount: Money,
    pub(crate) from: PartyView,
    pub(crate) to: PartyView,
    pub(crate) description: String,
    pub(crate) category: String,
    pub(crate) created_at: Timestamp,
    pub(crate) balance_after: Option<Money>,
    pub(crate) reason: Option<String>,
}

pub(crate) fn account_view(opened: &Opened) -> AccountView {
    let account = &opened.account;
    let money = |minor| Money {
        minor,
        currency: account.currency,
    };
    AccountView {
        id: account.id,
        posted: money(account.posted_minor),
        pending: money(account.pending_minor),
        available: money(account.available_minor()),
        version: account.version,
        status: account.status.as_str(),
        created_at: opened.created_at,
    }
}

/// The transaction from the side of `viewer`; `None` for somebody who is not to see it. A refusal is seen by the
/// payer alone.
pub(crate) fn transaction_view(
    record: TransactionRecord,
    viewer: UserId,
    handle_of: impl Fn(UserId) -> Option<String>,
) -> Option<TransactionView> {
    let refused_deposit = record.status == "refused" && record.source.is_some();
    let direction = if record.from.user == Some(viewer) {
        Direction::Out
    } else if record.to.user == Some(viewer) && (record.status != "refused" || refused_deposit) {
        Direction::In
    } else {
        return None;
    };
    let party = |side: &Side| PartyView {
        user: side.user,
        handle: side.user.and_then(&handle_of),
        account: side.account.filter(|_| side.user == Some(viewer)),
        external: None,
    };
    let (mut from, to) = (party(&record.from), party(&record.to));
    if record.from.user.is_none() {
        from.external = record.source;
    }
    let own = match direction {
        Direction::In => &record.to,
        Direction::Out => &record.from,
    };
    let currency = record.amount.currency;
    Some(TransactionView {
        id: record.id,
        kind: record.kind.as_str(),
        status: record.status,
        direction,
        amount: record.amount,
        from,
        to,
        description: record.description,
        category: record.category,
        created_at: record.created_at,
        balance_after: own.balance_minor.map(|minor| Money { minor, currency }),
        reason: record.reason,
    })
}
