//! What opening, renewing and ending a session have in common.

use std::time::Duration;

use jiff::Timestamp;
use platform::time::to_micros;
use platform::token::{ACCESS_TOKEN_LIFE, AUDIENCE, Claims, ISSUER};
use platform::work::UnitOfWork;
use platform::{Error, id};
use uuid::Uuid;

use super::Commands;
use crate::domain::token::Opaque;
use crate::events::{self, EndReason};
use crate::revocation_feed::RevocationFeed;
use crate::storage::refresh_tokens::RefreshToken;
use crate::storage::users::User;
use crate::storage::{refresh_tokens, revocations, sessions};

/// What a client holds to act as a user.
pub struct Tokens {
    /// Signed access token.
    pub access_token: String,
    /// How long it is good for.
    pub expires_in: Duration,
    /// Opaque, works once.
    pub refresh_token: String,
    /// When it expires.
    pub refresh_expires_at: Timestamp,
}

/// A user with fresh tokens.
pub struct SignedIn {
    /// The tokens.
    pub tokens: Tokens,
    /// The user.
    pub user: User,
}

impl Commands {
    /// Makes the next tokens of a session and stores the hash of the refresh token.
    pub(super) async fn issue(
        &self,
        unit: &UnitOfWork,
        user: &User,
        session: Uuid,
        refresh_expires_at: Timestamp,
    ) -> Result<Tokens, Error> {
        let now = unit.now();
        let refresh = Opaque::new(rand::random());
        let row = RefreshToken {
            hash: refresh.hash,
            session_id: session,
            expires_at: to_micros(refresh_expires_at),
            rotated_at: None,
        };
        refresh_tokens::insert(unit.tx(), row).await?;
        let life = i64::try_from(ACCESS_TOKEN_LIFE.as_secs()).unwrap_or(0);
        let access_token = self.signer.sign(&Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.id,
            sid: session,
            role: user.role.parse().map_err(Error::internal)?,
            email_verified: user.email_verified,
            gv: user.grants_version,
            iat: now.as_second(),
            exp: now.as_second().saturating_add(life),
            nbf: None,
            jti: id::new(now),
        })?;
        Ok(Tokens {
            access_token,
            expires_in: ACCESS_TOKEN_LIFE,
            refresh_token: refresh.text,
            refresh_expires_at,
        })
    }

    /// Ends a session unless it has ended: its tokens are refused everywhere once the unit commits.
    pub(super) async fn end_session(
        &self,
        unit: &mut UnitOfWork,
        session: Uuid,
        user: Uuid,
        reason: EndReason,
    ) -> Result<bool, Error> {
        let now = unit.now();
        if !sessions::end(unit.tx(), session, reason.as_str(), now).await? {
            return Ok(false);
        }
        let until = RevocationFeed::until(now);
        revocations::insert(unit.tx(), &[session], until, now).await?;
        events::session_revoked(unit, session, user, reason);
        let feed = self.feed.clone();
        unit.on_commit(move || feed.announce(&[session], until));
        Ok(true)
    }
}
