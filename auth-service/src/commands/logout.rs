//! Sign out: one session ends.

use platform::Error;

use super::Commands;
use crate::domain::token;
use crate::events::EndReason;
use crate::storage::{refresh_tokens, sessions};

impl Commands {
    /// Ends the session of a refresh token, be it the newest of its session or an older one. A token that is unknown
    /// or whose session has ended is no error: the caller is signed out either way.
    ///
    /// # Errors
    /// As any query.
    pub async fn logout(&self, presented: &str) -> Result<(), Error> {
        let hash = token::hash(presented);
        let reader = self.work.db().reader();
        let Some(token) = refresh_tokens::by_hash(reader, &hash).await? else {
            return Ok(());
        };
        let Some(session) = sessions::by_id(reader, token.session_id).await? else {
            return Ok(());
        };
        let mut unit = self.work.begin().await?;
        self.end_session(&mut unit, session.id, session.user_id, EndReason::SignOut)
            .await?;
        unit.commit().await
    }
}
