//! Refresh: a refresh token becomes the next pair, once.

use platform::Error;
use platform::time::{from_micros, to_micros};

use super::{Client, Commands, SignedIn};
use crate::domain::token;
use crate::error::Refusal;
use crate::events::EndReason;
use crate::storage::sessions::Session;
use crate::storage::{refresh_tokens, sessions, users};

impl Commands {
    /// Exchanges a refresh token. Of any number of exchanges of the same token one succeeds; any other shows that
    /// somebody holds a copy, and ends the session with all its tokens.
    ///
    /// Nothing here depends on times being different, so that exchanges within one tick of a clock are told apart.
    ///
    /// # Errors
    /// `refresh_token_invalid`, `refresh_token_reused`.
    pub async fn refresh(&self, presented: &str, client: Client) -> Result<SignedIn, Error> {
        let hash = token::hash(presented);
        let mut unit = self.work.begin().await?;
        let now = unit.now();
        let Some(old) = refresh_tokens::by_hash(unit.tx(), &hash).await? else {
            return Err(Refusal::RefreshTokenInvalid.into());
        };
        let Some(session) = sessions::by_id(unit.tx(), old.session_id).await? else {
            return Err(Refusal::RefreshTokenInvalid.into());
        };
        if !refresh_tokens::rotate(unit.tx(), &hash, now).await? {
            let reason = EndReason::RefreshTokenReused;
            let ended = self
                .end_session(&mut unit, session.id, session.user_id, reason)
                .await?;
            if !ended {
                return Err(Refusal::RefreshTokenInvalid.into());
            }
            unit.commit().await?;
            tracing::warn!(
                user.id = %session.user_id,
                session.id = %session.id,
                "a refresh token was used twice; its session was ended"
            );
            return Err(Refusal::RefreshTokenReused.into());
        }
        if old.expires_at <= to_micros(now) {
            return Err(Refusal::RefreshTokenInvalid.into());
        }
        let expires_at = self.next_expiry(&session, now);
        let (ip, agent) = (&client.ip, &client.user_agent);
        if !sessions::touch(unit.tx(), session.id, ip, agent, expires_at, now).await? {
            return Err(Refusal::RefreshTokenInvalid.into());
        }
        // Read now, so that a confirmed address or another role shows in the next token.
        let Some(user) = users::by_id(unit.tx(), session.user_id).await? else {
            return Err(Refusal::RefreshTokenInvalid.into());
        };
        let tokens = self.issue(&unit, &user, session.id, expires_at).await?;
        unit.commit().await?;
        Ok(SignedIn { tokens, user })
    }

    fn next_expiry(&self, session: &Session, now: jiff::Timestamp) -> jiff::Timestamp {
        let began = from_micros(session.created_at);
        self.config
            .session
            .lifetimes()
            .refresh_expiry(session.remembered, began, now)
    }
}
