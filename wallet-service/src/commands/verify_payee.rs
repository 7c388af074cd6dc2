//! A user has shown that the e-mail address is theirs.

use platform::Error;
use platform::work::UnitOfWork;

use crate::domain::{PayeeState, UserId};
use crate::storage::payees;

/// Writes it down, unless something newer is known.
///
/// # Errors
/// `not_found` for a user of whom nothing is known yet: that fact is still on its way.
pub(crate) async fn verify_payee(
    unit: &mut UnitOfWork,
    user: UserId,
    version: i64,
) -> Result<(), Error> {
    if !payees::knows(unit.tx(), user).await? {
        return Err(Error::not_found("user"));
    }
    payees::advance(unit.tx(), user, PayeeState::Verified, version).await
}
