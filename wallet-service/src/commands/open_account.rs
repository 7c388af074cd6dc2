//! Open an account in a further currency.

use jiff::Timestamp;
use platform::work::{Begun, UnitOfWork};
use platform::{Error, id};

use super::{Commands, Outcome, Ticket, account_not_ready};
use crate::domain::{Account, AccountId, AccountStatus, Currency, Owner, UserId};
use crate::events;
use crate::queries::{AccountView, account_view};
use crate::storage::{accounts, payees};

impl Commands {
    /// Opens the account, or finds the one that is there.
    ///
    /// # Errors
    /// `account_not_ready` for a user of whom the wallet has not heard yet, `idempotency_key_reused`, and faults.
    pub(crate) async fn open_account(
        &self,
        user: UserId,
        currency: Currency,
        ticket: Ticket<AccountView>,
    ) -> Result<Outcome, Error> {
        if !payees::knows(self.work.db().reader(), user).await? {
            return Err(account_not_ready());
        }
        let mut unit = match self.work.begin_once(&ticket.key).await? {
            Begun::Replayed(answer) => {
                return Ok(Outcome {
                    answer,
                    replayed: true,
                });
            }
            Begun::Fresh(unit) => unit,
        };
        open_for(&mut unit, user, currency).await?;
        let all = accounts::of_user(unit.tx(), user).await?;
        let opened = all.iter().find(|one| one.account.currency == currency);
        let opened = opened
            .ok_or_else(|| Error::internal(anyhow::anyhow!("an opened account is not there")))?;
        let answer = Ok((ticket.encode)(&account_view(opened)));
        unit.store_answer(&answer).await?;
        unit.commit().await?;
        Ok(Outcome {
            answer,
            replayed: false,
        })
    }
}

/// Opens a user's account within a unit of work, unless it is open already.
pub(super) async fn open_for(
    unit: &mut UnitOfWork,
    user: UserId,
    currency: Currency,
) -> Result<(), Error> {
    let account = empty(user, currency, unit.now());
    let id = account.id;
    if accounts::open(unit.tx(), account, unit.now()).await? {
        events::tell_account_opened(unit, id, user, currency);
    }
    Ok(())
}

fn empty(user: UserId, currency: Currency, now: Timestamp) -> Account {
    Account {
        id: AccountId(id::new(now)),
        owner: Owner::User(user),
        currency,
        posted_minor: 0,
        pending_minor: 0,
        floor_minor: Some(0),
        version: 0,
        status: AccountStatus::Open,
    }
}
