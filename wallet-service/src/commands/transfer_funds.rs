//! Pay another user.

use platform::{Error, Kind};

use super::batch::{Intent, Order};
use super::{Commands, Outcome, Ticket};
use crate::domain::{Amount, Category, PayeeRef, UserId};

/// A payment as it was asked for.
#[derive(Debug)]
pub(crate) struct TransferFunds {
    pub(crate) payer: UserId,
    /// Whether the payer has shown that the e-mail address is theirs.
    pub(crate) payer_verified: bool,
    pub(crate) to: PayeeRef,
    pub(crate) amount: Amount,
    pub(crate) description: String,
    pub(crate) category: Category,
}

impl Commands {
    /// Moves money from the payer to the payee, or tells why not.
    ///
    /// # Errors
    /// What burns no key: `email_not_verified`, `account_not_ready`, `overloaded`, `outcome_unknown`, and faults. A
    /// refusal by the ledger stands in the outcome.
    pub(crate) async fn transfer_funds(
        &self,
        transfer: TransferFunds,
        ticket: Ticket,
    ) -> Result<Outcome, Error> {
        // Not stored under the key, because it can change.
        if !transfer.payer_verified {
            return Err(Error::new(
                Kind::PermissionDenied,
                "email_not_verified",
                "money can be sent once the e-mail address is confirmed",
            ));
        }
        let TransferFunds {
            payer: user,
            to,
            amount,
            description,
            category,
            ..
        } = transfer;
        let intent = Intent::Transfer {
            to,
            description,
            category,
        };
        self.poster
            .post(Order::new(user, amount, intent, &ticket), ticket.deadline)
            .await
    }
}
