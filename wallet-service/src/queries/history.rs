//! A user's transactions, newest first.

use platform::database::Database;
use platform::{Error, page};
use uuid::Uuid;

use super::{TransactionView, transaction_view};
use crate::domain::{TransactionId, UserId};
use crate::storage::history::{self, HistoryFilter};

/// Part of a history.
#[derive(Debug)]
pub(crate) struct HistoryPage {
    pub(crate) transactions: Vec<TransactionView>,
    /// Empty on the last page.
    pub(crate) next_cursor: String,
}

/// One page of a user's history; `limit` as the caller asked.
pub(crate) async fn list_transactions(
    db: &Database,
    user: UserId,
    filter: &HistoryFilter,
    limit: i32,
    cursor: &str,
) -> Result<HistoryPage, Error> {
    let limit = page::limit(limit)?;
    let after = page::decode_cursor::<Uuid>(cursor)?.map(TransactionId);
    // One more than asked tells whether there is a further page.
    let (mut found, parties) = history::page(db, user, filter, after, limit + 1).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > size;
    found.truncate(size);
    let next_cursor = match found.last() {
        Some(last) if more => page::encode_cursor(&last.id.0),
        _ => String::new(),
    };
    let handle = |id| parties.handle(id).map(str::to_owned);
    let transactions = found
        .into_iter()
        .filter_map(|one| transaction_view(one, user, handle))
        .collect();
    Ok(HistoryPage {
        transactions,
        next_cursor,
    })
}

/// One transaction, for its parties alone.
pub(crate) async fn get_transaction(
    db: &Database,
    user: UserId,
    id: TransactionId,
) -> Result<TransactionView, Error> {
    let none = || Error::not_found("transaction");
    let (record, parties) = history::get(db, id).await?.ok_or_else(none)?;
    transaction_view(record, user, |id| parties.handle(id).map(str::to_owned)).ok_or_else(none)
}
