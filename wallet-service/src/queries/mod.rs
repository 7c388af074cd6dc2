//! Read-only views, each from its viewer's side.

mod accounts;
mod history;
mod verify_ledger;
mod view;

pub(crate) use accounts::{get_account, list_accounts};
pub(crate) use history::{get_transaction, list_transactions};
pub use verify_ledger::{Difference, LedgerReport, verify_ledger};
pub(crate) use view::{AccountView, PartyView, TransactionView, account_view, transaction_view};

pub(crate) use crate::storage::history::{Direction, HistoryFilter};
pub(crate) use crate::storage::transactions::STATUSES;
