//! One's own profile.

use platform::Error;
use platform::database::Database;
use uuid::Uuid;

use crate::error::Refusal;
use crate::storage::users::{self, User};

/// The user with this id.
///
/// # Errors
/// `account_gone` when there is none.
pub async fn get(db: &Database, id: Uuid) -> Result<User, Error> {
    Ok(users::by_id(db.reader(), id)
        .await?
        .ok_or(Refusal::AccountGone)?)
}
