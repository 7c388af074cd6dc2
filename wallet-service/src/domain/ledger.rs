//! The ledger over the accounts at hand: a movement is two entries that sum to zero, or nothing at all.

use std::collections::BTreeMap;

use super::{Account, AccountId, Amount, Refusal, TransactionId};

/// Money on its way from one account to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// The transaction that it belongs to.
    pub transaction: TransactionId,
    /// The account that gives.
    pub from: AccountId,
    /// The account that takes.
    pub to: AccountId,
    /// How much.
    pub amount: Amount,
}

/// One line in the book of one account. Never changed, never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The transaction that it belongs to.
    pub transaction: TransactionId,
    /// In whose book it stands.
    pub account: AccountId,
    /// Number of this line in the book, from 1 without gaps.
    pub version: i64,
    /// Minor units; below zero when money leaves.
    pub amount_minor: i64,
    /// The posted balance after it, in minor units.
    pub balance_minor: i64,
}

/// A movement that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// How much moved.
    pub amount: Amount,
    /// The two lines; their amounts sum to zero.
    pub entries: [Entry; 2],
    /// The account that gave, right after.
    pub from: Account,
    /// The account that took, right after.
    pub to: Account,
}

/// The accounts that a batch of commands may touch, as they stand.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    accounts: BTreeMap<AccountId, Account>,
}

impl Ledger {
    /// A ledger over these accounts.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        Self {
            accounts: accounts.into_iter().map(|one| (one.id, one)).collect(),
        }
    }

    /// An account as it stands now.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// All accounts as they stand now, in the order of their ids.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Moves money. A refusal leaves every account as it was.
    ///
    /// # Errors
    /// Any [`Refusal`] of the two accounts; [`Refusal::SelfTransfer`] when they are one.
    pub fn post(&mut self, movement: &Movement) -> Result<Posting, Refusal> {
        if movement.from == movement.to {
            return Err(Refusal::SelfTransfer);
        }
        let book = |id| self.accounts.get(&id).ok_or(Refusal::AccountNotFound);
        // Both sides are decided before either is written.
        let from = book(movement.from)?.debited(movement.amount)?;
        let to = book(movement.to)?.credited(movement.amount)?;
        let line = |account: &Account, amount_minor| Entry {
            transaction: movement.transaction,
            account: account.id,
            version: account.version,
            amount_minor,
            balance_minor: account.posted_minor,
        };
        // An amount is positive, so its negative is in range.
        let entries = [
            line(&from, -movement.amount.minor()),
            line(&to, movement.amount.minor()),
        ];
        self.accounts.insert(from.id, from.clone());
        self.accounts.insert(to.id, to.clone());
        Ok(Posting {
            amount: movement.amount,
            entries,
            from,
            to,
        })
    }
}
