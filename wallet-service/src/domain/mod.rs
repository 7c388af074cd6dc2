//! The pure ledger: money, accounts and the rules of moving money. Synchronous and total; ids, times and
//! the accounts come in as arguments.

mod account;
mod category;
mod id;
mod ledger;
mod money;
mod orders;
mod payee;
mod refusal;

pub use account::{Account, AccountStatus, Owner};
pub use category::{Categories, Category};
pub use id::{AccountId, TransactionId, UserId};
pub use ledger::{Entry, Ledger, Movement, Posting};
pub use money::{Amount, AmountError, Currency, MAX_AMOUNT_MINOR, Money};
pub use orders::{DepositOrder, DepositTarget, TransferOrder, TransferPayee};
pub use payee::{Payee, PayeeRef, PayeeState};
pub use refusal::Refusal;

#[cfg(test)]
mod model_tests;
