//! An account and the two things that can happen to its balance.

use super::{AccountId, Amount, Currency, Refusal, UserId};

/// Whose money an account holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A user's; never below its floor.
    User(UserId),
    /// The world outside, by the name of the funding source. What came in from there stands here as a
    /// debt, so this account may go below zero.
    External(String),
}

/// Whether an account takes part in movements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountStatus {
    /// Gives and takes.
    Open,
    /// Neither gives nor takes.
    Frozen,
}

impl AccountStatus {
    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Frozen => "frozen",
        }
    }
}

/// One account in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// UUIDv7.
    pub id: AccountId,
    /// Whose it is.
    pub owner: Owner,
    /// In which currency it counts.
    pub currency: Currency,
    /// Sum of all entries, in minor units.
    pub posted_minor: i64,
    /// Reserved by holds, in minor units.
    pub pending_minor: i64,
    /// The available balance never falls below this, in minor units; `None` for an external account.
    pub floor_minor: Option<i64>,
    /// Number of entries so far.
    pub version: i64,
    /// Whether it takes part in movements.
    pub status: AccountStatus,
}

impl Account {
    /// What the owner may spend, in minor units: posted, less reserved, less the floor.
    pub fn available_minor(&self) -> i64 {
        self.posted_minor
            .saturating_sub(self.pending_minor)
            .saturating_sub(self.floor_minor.unwrap_or(0))
    }

    /// The user who owns it, if it is a user's.
    pub fn user(&self) -> Option<UserId> {
        match self.owner {
            Owner::User(user) => Some(user),
            Owner::External(_) => None,
        }
    }

    /// This account after `amount` has left it.
    ///
    /// # Errors
    /// [`Refusal::AccountFrozen`], [`Refusal::CurrencyMismatch`], [`Refusal::InsufficientFunds`],
    /// [`Refusal::AmountOverflow`].
    pub fn debited(&self, amount: Amount) -> Result<Self, Refusal> {
        self.check(amount)?;
        let posted_minor = self
            .posted_minor
            .checked_sub(amount.minor())
            .ok_or(Refusal::AmountOverflow)?;
        if self.floor_minor.is_some() && amount.minor() > self.available_minor() {
            return Err(Refusal::InsufficientFunds);
        }
        self.with_posted(posted_minor)
    }

    /// This account after `amount` has come to it.
    ///
    /// # Errors
    /// [`Refusal::AccountFrozen`], [`Refusal::CurrencyMismatch`], [`Refusal::AmountOverflow`].
    pub fn credited(&self, amount: Amount) -> Result<Self, Refusal> {
        self.check(amount)?;
        let posted_minor = self
            .posted_minor
            .checked_add(amount.minor())
            .ok_or(Refusal::AmountOverflow)?;
        self.with_posted(posted_minor)
    }

    fn check(&self, amount: Amount) -> Result<(), Refusal> {
        if self.currency != amount.currency() {
            return Err(Refusal::CurrencyMismatch);
        }
        match self.status {
            AccountStatus::Open => Ok(()),
            AccountStatus::Frozen => Err(Refusal::AccountFrozen),
        }
    }

    fn with_posted(&self, posted_minor: i64) -> Result<Self, Refusal> {
        let version = self.version.checked_add(1).ok_or(Refusal::AmountOverflow)?;
        Ok(Self {
            posted_minor,
            version,
            ..self.clone()
        })
    }
}
