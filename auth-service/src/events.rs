//! The facts that identity tells. It consumes none.

use jiff::Timestamp;
use platform::keys::Keys;
use platform::time::to_proto;
use platform::work::UnitOfWork;
use proto::events::v1::MailSecret;
use proto::identity::v1::{EmailVerified, MailRequested, SessionRevoked, UserRegistered};
use uuid::Uuid;

use crate::storage::users::User;

/// Why a session ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its owner signed out.
    SignOut,
    /// Its owner signed out everywhere.
    SignOutEverywhere,
    /// A refresh token came a second time: somebody has a copy.
    RefreshTokenReused,
}

impl EndReason {
    /// The name in events and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignOut => "sign_out",
            Self::SignOutEverywhere => "sign_out_everywhere",
            Self::RefreshTokenReused => "refresh_token_reused",
        }
    }
}

/// A mail that identity asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mail<'a> {
    /// Carries the token that confirms the address.
    VerifyEmail {
        /// The token in the clear.
        token: &'a str,
    },
    /// Tells the owner that somebody registers with the address.
    RegisterAttempt,
}

/// A person has registered.
pub fn user_registered(unit: &mut UnitOfWork, keys: &Keys, user: &User) {
    let event = UserRegistered {
        user_id: user.id.to_string(),
        handle: user.handle.clone(),
        email_hash: keys.email_hash(&user.email),
        version: user.version,
    };
    unit.emit(user.id, &event);
}

/// A user has confirmed the address.
pub fn email_verified(unit: &mut UnitOfWork, user: &User) {
    let event = EmailVerified {
        user_id: user.id.to_string(),
        version: user.version,
    };
    unit.emit(user.id, &event);
}

/// A session has ended before its time.
pub fn session_revoked(unit: &mut UnitOfWork, session: Uuid, user: Uuid, reason: EndReason) {
    let event = SessionRevoked {
        session_id: session.to_string(),
        user_id: user.to_string(),
        reason: reason.as_str().to_owned(),
    };
    unit.emit(session, &event);
}

/// A user must be sent a mail before `expires_at`. Address, name and token travel sealed.
pub fn mail_requested(
    unit: &mut UnitOfWork,
    keys: &Keys,
    user: &User,
    mail: Mail<'_>,
    expires_at: Timestamp,
) {
    let user_id = user.id.to_string();
    let (template, values) = match mail {
        Mail::VerifyEmail { token } => (
            "verify_email",
            [("token".to_owned(), token.to_owned())].into(),
        ),
        Mail::RegisterAttempt => ("register_attempt", Default::default()),
    };
    let secret = MailSecret {
        to: user.email.clone(),
        name: user.first_name.clone(),
        values,
    };
    let event = MailRequested {
        sealed: keys.seal_mail(&secret, user_id.as_bytes()),
        user_id,
        template: template.to_owned(),
        locale: user.locale.clone(),
        expires_at: Some(to_proto(expires_at)),
    };
    unit.emit(user.id, &event);
}
