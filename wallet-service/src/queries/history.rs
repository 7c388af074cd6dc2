//! A user's transactions, newest first.

use platform::database::Database;
use platform::{Error, page};
use uuid::Uuid;

use super::{TransactionView, transaction_view};
use crate::domain::{PayeeRef, TransactionId, UserId};
use crate::storage::history::{self, HistoryFilter};
use crate::storage::payees::{self, Payees};
use crate::storage::snapshot;
use crate::storage::transactions::TransactionRecord;

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
    let tx = snapshot(db).await?;
    // One more than asked tells whether there is a further page.
    let mut found = history::page(&tx, user, filter, after, limit + 1).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > size;
    found.truncate(size);
    let next_cursor = match found.last() {
        Some(last) if more => page::encode_cursor(&last.id.0),
        _ => String::new(),
    };
    let known = parties(&tx, &found).await?;
    tx.rollback().await?;
    let transactions = found
        .into_iter()
        .filter_map(|one| transaction_view(one, user, |id| known.handle(id).map(str::to_owned)))
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
    let found = history::get(db.reader(), id).await?;
    let record = found.ok_or_else(|| Error::not_found("transaction"))?;
    let known = parties(db.reader(), std::slice::from_ref(&record)).await?;
    transaction_view(record, user, |id| known.handle(id).map(str::to_owned))
        .ok_or_else(|| Error::not_found("transaction"))
}

async fn parties(
    db: &impl sea_orm::ConnectionTrait,
    records: &[TransactionRecord],
) -> Result<Payees, Error> {
    let names: Vec<PayeeRef> = records
        .iter()
        .flat_map(|one| [one.from.user, one.to.user])
        .flatten()
        .map(PayeeRef::User)
        .collect();
    payees::find(db, &names).await
}
