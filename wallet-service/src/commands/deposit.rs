//! Bring money in from outside.

use std::sync::PoisonError;

use platform::{Error, id};

use super::batch::{Intent, Order};
use super::{Commands, Outcome, Ticket};
use crate::domain::{Account, AccountId, AccountStatus, Amount, Currency, Owner, UserId};
use crate::storage::accounts;

/// A deposit as it was asked for.
#[derive(Debug)]
pub(crate) struct Deposit {
    pub(crate) user: UserId,
    pub(crate) amount: Amount,
    /// Where it goes; `None` means the user's account in the currency of the amount.
    pub(crate) account: Option<AccountId>,
    /// Name of the funding source; empty means the configured one.
    pub(crate) source: String,
}

impl Commands {
    /// Collects the money and credits it, or tells why not.
    ///
    /// # Errors
    /// What burns no key: an unknown source, `account_not_ready`, `overloaded`, `outcome_unknown`, and faults. A
    /// refusal by the ledger stands in the outcome.
    pub(crate) async fn deposit(&self, deposit: Deposit, ticket: Ticket) -> Result<Outcome, Error> {
        let Deposit {
            user,
            amount,
            account,
            source,
        } = deposit;
        let source = self.funding.source(&source)?;
        // The key is our reference, so that a retry does not collect twice.
        source.collect(&ticket.key, amount).await?;
        let external = self
            .external_account(source.name(), amount.currency())
            .await?;
        let intent = Intent::Deposit {
            account,
            external,
            source: source.name().to_owned(),
        };
        self.poster
            .post(Order::new(user, amount, intent, &ticket), ticket.deadline)
            .await
    }

    /// The account of the world outside for a source and a currency, opened by the first who needs it.
    async fn external_account(&self, source: &str, currency: Currency) -> Result<AccountId, Error> {
        let name = (source.to_owned(), currency);
        let known = self
            .external
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&name)
            .copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = match accounts::external(self.work.db().reader(), source, currency).await? {
            Some(found) => found,
            None => self.open_external(source, currency).await?,
        };
        self.external
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, found);
        Ok(found)
    }

    async fn open_external(&self, source: &str, currency: Currency) -> Result<AccountId, Error> {
        let unit = self.work.begin().await?;
        let account = Account {
            id: AccountId(id::new(unit.now())),
            owner: Owner::External(source.to_owned()),
            currency,
            posted_minor: 0,
            pending_minor: 0,
            floor_minor: None,
            version: 0,
            status: AccountStatus::Open,
        };
        accounts::open(unit.tx(), account, unit.now()).await?;
        // Two may open it at once; both get the one that is there.
        let found = accounts::external(unit.tx(), source, currency).await?;
        unit.commit().await?;
        found.ok_or_else(|| Error::internal(anyhow::anyhow!("an opened account is not there")))
    }
}
