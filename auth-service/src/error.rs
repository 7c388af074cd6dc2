//! What identity refuses, in its own words, and what callers see of it.

use std::time::Duration;

use platform::{Error, FieldViolation, Kind};

/// A refusal by a rule of identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Unknown address or wrong password: nobody learns which.
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// Another user has the address.
    #[error("this e-mail address is registered already")]
    EmailTaken,
    /// A refresh token that is unknown, expired, or of a session that has ended.
    #[error("the refresh token is not valid; sign in again")]
    RefreshTokenInvalid,
    /// A refresh token that was exchanged before. Its session has ended now.
    #[error("the refresh token was used before; its session has ended, sign in again")]
    RefreshTokenReused,
    /// Too many failed tries.
    #[error("too many failed attempts; try again later")]
    TooManyAttempts(Duration),
    /// Too many mails asked for.
    #[error("too many mails were asked for; try again later")]
    TooManyMails(Duration),
    /// The address is confirmed already.
    #[error("this e-mail address is confirmed already")]
    EmailAlreadyVerified,
    /// A verification token that is unknown or expired.
    #[error("the token is unknown or has expired; ask for another mail")]
    VerificationTokenInvalid,
    /// The profile has changed since the caller read it.
    #[error("the profile has changed since you read it")]
    VersionMismatch,
    /// The token's user is not there any more.
    #[error("this account does not exist any more")]
    AccountGone,
    /// More passwords or searches wait than can be worked on in time.
    #[error("too much to do at the moment; try again")]
    Overloaded,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::InvalidCredentials => {
                Self::new(Kind::Unauthenticated, "invalid_credentials", message)
            }
            Refusal::EmailTaken => Self::conflict("email_taken", message),
            Refusal::RefreshTokenInvalid => {
                Self::new(Kind::Unauthenticated, "refresh_token_invalid", message)
            }
            Refusal::RefreshTokenReused => {
                Self::new(Kind::Unauthenticated, "refresh_token_reused", message)
            }
            Refusal::TooManyAttempts(wait) => {
                Self::new(Kind::RateLimited, "too_many_attempts", message)
                    .with_retry_after(whole_seconds(wait))
            }
            Refusal::TooManyMails(wait) => Self::new(Kind::RateLimited, "too_many_mails", message)
                .with_retry_after(whole_seconds(wait)),
            Refusal::EmailAlreadyVerified => Self::conflict("email_already_verified", message),
            Refusal::VerificationTokenInvalid => {
                let violation = FieldViolation::new("token", &message);
                Self::new(Kind::InvalidArgument, "token_invalid", message)
                    .with_violations(vec![violation])
            }
            Refusal::VersionMismatch => {
                Self::new(Kind::PreconditionFailed, "version_mismatch", message)
            }
            Refusal::AccountGone => Self::new(Kind::Unauthenticated, "account_gone", message),
            Refusal::Overloaded => {
                Self::unavailable("overloaded", message).with_retry_after(Duration::from_secs(1))
            }
        }
    }
}

/// Rounded up, so that whoever waits as told does not come too early.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}
