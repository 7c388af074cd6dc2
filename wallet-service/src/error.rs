//! From the words of the ledger to the words of the wire.

use platform::{Error, Kind};

use crate::domain::Refusal;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::PayeeNotFound | Refusal::AccountNotFound => Kind::NotFound,
            Refusal::InsufficientFunds
            | Refusal::CurrencyMismatch
            | Refusal::SelfTransfer
            | Refusal::AccountFrozen
            | Refusal::AmountOverflow => Kind::Conflict,
        };
        Error::new(kind, refusal.reason(), refusal.to_string())
    }
}
