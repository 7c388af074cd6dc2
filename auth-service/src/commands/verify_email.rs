//! Confirm an address with the token that was mailed to it.

use platform::Error;

use super::Commands;
use crate::domain::token;
use crate::error::Refusal;
use crate::events;
use crate::storage::users::User;
use crate::storage::{email_tokens, users};

impl Commands {
    /// Confirms the address that the token was mailed to.
    ///
    /// A token takes effect once. Presented again within its life, e.g. by a double click, it changes nothing and is
    /// answered with success, because what it asks for holds.
    ///
    /// # Errors
    /// `token_invalid` when the token is unknown, has expired, or was mailed to another address than the user's.
    pub async fn verify_email(&self, presented: &str) -> Result<User, Error> {
        let mut unit = self.work.begin().await?;
        let now = unit.now();
        let hash = token::hash(presented.trim());
        let Some(token) = email_tokens::live(unit.tx(), &hash, now).await? else {
            return Err(Refusal::VerificationTokenInvalid.into());
        };
        let changed =
            users::confirm_email(unit.tx(), token.user_id, &token.email_normalised, now).await?;
        let user = users::by_id(unit.tx(), token.user_id)
            .await?
            .filter(|user| user.email_normalised == token.email_normalised)
            .ok_or(Refusal::VerificationTokenInvalid)?;
        if changed {
            events::email_verified(&mut unit, &user);
        }
        unit.commit().await?;
        Ok(user)
    }
}
