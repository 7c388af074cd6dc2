//! Somebody has registered: they can be paid, and get their first account.

use platform::Error;
use platform::work::UnitOfWork;

use super::open_account::open_for;
use crate::domain::{Currency, Payee};
use crate::storage::payees;

/// Writes the user down and opens the account in `currency`. Doing it again changes nothing.
pub(crate) async fn register_payee(
    unit: &mut UnitOfWork,
    payee: Payee,
    currency: Currency,
) -> Result<(), Error> {
    let user = payee.user;
    // Handle and address of a user come with this fact alone, so whatever is there already is not older.
    payees::add(unit.tx(), payee, unit.now()).await?;
    open_for(unit, user, currency).await
}
