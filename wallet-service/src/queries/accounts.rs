//! A user's accounts.

use platform::Error;
use platform::database::Database;

use super::{AccountView, account_view};
use crate::domain::{AccountId, UserId};
use crate::storage::accounts;

/// The user's accounts, oldest first. There are at most as many as currencies.
pub(crate) async fn list_accounts(db: &Database, user: UserId) -> Result<Vec<AccountView>, Error> {
    Ok(accounts::of_user(db.reader(), user)
        .await?
        .iter()
        .map(account_view)
        .collect())
}

/// One of the user's accounts.
pub(crate) async fn get_account(
    db: &Database,
    user: UserId,
    id: AccountId,
) -> Result<AccountView, Error> {
    let all = list_accounts(db, user).await?;
    all.into_iter()
        .find(|one| one.id == id)
        .ok_or_else(|| Error::not_found("account"))
}
