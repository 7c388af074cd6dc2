//! What users ask of the ledger, once the accounts behind the names are known.

use super::{AccountId, Amount, Ledger, Movement, Posting, Refusal, TransactionId, UserId};

/// Pay somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferOrder {
    /// The transaction that it becomes.
    pub transaction: TransactionId,
    /// Who pays.
    pub payer: UserId,
    /// The payer's account in the currency of the amount, if there is one.
    pub payer_account: Option<AccountId>,
    /// Who is paid; `None` when nobody answers to the name.
    pub payee: Option<TransferPayee>,
    /// How much.
    pub amount: Amount,
}

/// The other side of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferPayee {
    /// Who.
    pub user: UserId,
    /// The payee's account in the currency of the amount, if there is one.
    pub account: Option<AccountId>,
}

impl TransferOrder {
    /// Decides the order and, when it is granted, moves the money.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has moved then.
    pub fn decide(&self, ledger: &mut Ledger) -> Result<Posting, Refusal> {
        let payee = self.payee.ok_or(Refusal::PayeeNotFound)?;
        if payee.user == self.payer {
            return Err(Refusal::SelfTransfer);
        }
        let from = self.payer_account.ok_or(Refusal::CurrencyMismatch)?;
        let to = payee.account.ok_or(Refusal::CurrencyMismatch)?;
        let (transaction, amount) = (self.transaction, self.amount);
        ledger.post(&Movement {
            transaction,
            from,
            to,
            amount,
        })
    }
}

/// Bring money in from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositOrder {
    /// The transaction that it becomes.
    pub transaction: TransactionId,
    /// The account of the world outside.
    pub external: AccountId,
    /// Where the money goes.
    pub target: DepositTarget,
    /// How much.
    pub amount: Amount,
}

/// The account that a deposit goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepositTarget {
    /// An account of the depositor.
    Account(AccountId),
    /// The depositor named an account that is not theirs or is not at all.
    NotTheirs,
    /// The depositor has no account in the currency of the amount.
    NoneInCurrency,
}

impl DepositOrder {
    /// Decides the order and, when it is granted, moves the money.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has moved then.
    pub fn decide(&self, ledger: &mut Ledger) -> Result<Posting, Refusal> {
        let to = match self.target {
            DepositTarget::Account(account) => account,
            DepositTarget::NotTheirs => return Err(Refusal::AccountNotFound),
            DepositTarget::NoneInCurrency => return Err(Refusal::CurrencyMismatch),
        };
        let (transaction, amount, from) = (self.transaction, self.amount, self.external);
        ledger.post(&Movement {
            transaction,
            from,
            to,
            amount,
        })
    }
}
