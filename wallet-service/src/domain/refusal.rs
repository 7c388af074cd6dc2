//! Why the ledger says no.

use thiserror::Error;

/// A refusal by a rule. It is the answer of the command: stored under its key and given again to a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// The available balance is less than the amount.
    #[error("the available balance is less than the amount")]
    InsufficientFunds,
    /// One of the two sides has no account in the currency of the amount.
    #[error("payer and payee both need an account in the currency of the amount")]
    CurrencyMismatch,
    /// Payer and payee are the same.
    #[error("payer and payee are the same")]
    SelfTransfer,
    /// Nobody answers to that handle, e-mail or id.
    #[error("there is no such payee")]
    PayeeNotFound,
    /// The account does not exist or belongs to somebody else.
    #[error("there is no such account")]
    AccountNotFound,
    /// One of the two accounts neither gives nor takes money.
    #[error("one of the accounts is frozen")]
    AccountFrozen,
    /// A balance would leave the range that can be counted.
    #[error("the balance would become too large to be counted")]
    AmountOverflow,
}

impl Refusal {
    /// Stable name in snake case.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InsufficientFunds => "insufficient_funds",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::SelfTransfer => "self_transfer",
            Self::PayeeNotFound => "payee_not_found",
            Self::AccountNotFound => "not_found",
            Self::AccountFrozen => "account_frozen",
            Self::AmountOverflow => "amount_overflow",
        }
    }
}
