//! Who calls, and whether that can be believed.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::keys::Keys;
use crate::revocation::{Freshness, Revocations};
use crate::token::{ACCESS_TOKEN_TYPE, Claims, KeySet, SERVICE_TOKEN_TYPE, ServiceTokens};
use crate::{Error, Kind, SharedClock};

/// What a user may do, roughly; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Holds a wallet.
    User,
    /// Helps users.
    Support,
    /// Watches over the rules.
    Compliance,
    /// Runs the system.
    Admin,
    /// Appoints those who run the system.
    SuperAdmin,
}

impl Role {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::User, "user"),
        (Self::Support, "support"),
        (Self::Compliance, "compliance"),
        (Self::Admin, "admin"),
        (Self::SuperAdmin, "super_admin"),
    ];

    /// The name in snake case.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize].1
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of user, support, compliance, admin, super_admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(role, _)| *role).ok_or(UnknownRole)
    }
}

/// The user on whose behalf a call is made.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user_id: Uuid,
    /// The session that the user signed in to.
    pub session_id: Uuid,
    /// What the user may do, roughly.
    pub role: Role,
    /// Whether the user's address was confirmed.
    pub email_verified: bool,
    /// Version of the user's grants.
    pub grants_version: i64,
    /// When the access token expires.
    pub expires_at: Timestamp,
    /// The access token, for calls to other services on behalf of the user.
    pub token: Arc<str>,
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Principal")
            .field("user_id", &self.user_id)
            .field("session_id", &self.session_id)
            .field("role", &self.role)
            .field("email_verified", &self.email_verified)
            .field("grants_version", &self.grants_version)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Principal {
    fn new(claims: &Claims, token: &str) -> Self {
        Self {
            user_id: claims.sub,
            session_id: claims.sid,
            role: claims.role,
            email_verified: claims.email_verified,
            grants_version: claims.gv,
            expires_at: Timestamp::from_second(claims.exp).unwrap_or(Timestamp::MAX),
            token: token.into(),
        }
    }
}

/// Whoever makes a call; stands in the extensions of every request that a [`crate::grpc::server::Server`] lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A user, through whatever services.
    User(Principal),
    /// A service on its own behalf, by name.
    Service(String),
}

/// The user who calls.
///
/// # Errors
/// `user_required` (permission denied) when a service calls on its own behalf, `token_missing` when nobody is known.
pub fn user<T>(request: &tonic::Request<T>) -> Result<Principal, tonic::Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::User(principal)) => Ok(principal.clone()),
        Some(Caller::Service(_)) => Err(Error::new(
            Kind::PermissionDenied,
            "user_required",
            "this call is made on behalf of a user only",
        )
        .into()),
        None => Err(token_missing().into()),
    }
}

/// The user who calls, for calls that move money, administer, or open a stream: they need to know that the session
/// was not revoked a moment ago.
///
/// # Errors
/// As [`user`]; `revocation_state_unknown` (unavailable) when auth-service was not heard of within a second.
pub fn fresh_user<T>(request: &tonic::Request<T>) -> Result<Principal, tonic::Status> {
    let principal = user(request)?;
    match request.extensions().get::<Freshness>() {
        Some(Freshness::Fresh) => Ok(principal),
        _ => Err(revocation_state_unknown().into()),
    }
}

/// The name of the service that calls on its own behalf.
///
/// # Errors
/// `service_required` (permission denied) when a user calls, `token_missing` when nobody is known.
pub fn service<T>(request: &tonic::Request<T>) -> Result<String, tonic::Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Service(name)) => Ok(name.clone()),
        Some(Caller::User(_)) => Err(Error::new(
            Kind::PermissionDenied,
            "service_required",
            "this call is made by services only",
        )
        .into()),
        None => Err(token_missing().into()),
    }
}

pub(crate) fn token_missing() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "token_missing",
        "an access token is needed",
    )
}

fn revocation_state_unknown() -> Error {
    Error::unavailable(
        "revocation_state_unknown",
        "whether the session was revoked cannot be checked at the moment",
    )
    .with_retry_after(Duration::from_secs(1))
}

/// Turns tokens into callers. Cheap to clone; all clones share keys and revocations.
#[derive(Clone)]
pub struct Authenticator {
    /// The keys of access tokens.
    pub keys: KeySet,
    /// The sessions that count no more.
    pub revocations: Revocations,
    service_tokens: ServiceTokens,
    clock: SharedClock,
}

impl Authenticator {
    /// Knows no key and nothing of revocations yet: see [`crate::identity::follow`].
    pub fn new(clock: SharedClock, keys: &Keys) -> Self {
        Self::with_revocations(clock, keys, Revocations::new())
    }

    /// With news of revocations from elsewhere than [`crate::identity::follow`].
    pub fn with_revocations(clock: SharedClock, keys: &Keys, revocations: Revocations) -> Self {
        Self {
            keys: KeySet::new(),
            revocations,
            service_tokens: keys.service_tokens().clone(),
            clock,
        }
    }

    /// The tokens with which this process calls others on its own behalf.
    pub fn service_tokens(&self) -> &ServiceTokens {
        &self.service_tokens
    }

    /// The clock that tokens are checked by.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Who presents this token. A leading `Bearer ` is passed over.
    ///
    /// Reads may go on with the result; what moves money, administers or opens a stream must also pass
    /// [`Authenticator::require_fresh`].
    ///
    /// # Errors
    /// `token_invalid`, `token_expired`, `token_revoked` (unauthenticated); `identity_unavailable`,
    /// `revocation_state_unknown` (unavailable) when auth-service was not heard of for too long.
    pub fn authenticate(&self, bearer: &str) -> Result<Caller, Error> {
        let token = strip_scheme(bearer);
        let now = self.clock.now();
        match crate::token::claimed_type(token).as_deref() {
            Some(SERVICE_TOKEN_TYPE) => {
                Ok(Caller::Service(self.service_tokens.verify(token, now)?))
            }
            Some(ACCESS_TOKEN_TYPE) => {
                let claims = self.keys.verify(token, now)?;
                if self.revocations.is_revoked(&claims.sid) {
                    let message = "the session was ended";
                    return Err(Error::new(Kind::Unauthenticated, "token_revoked", message));
                }
                if self.revocations.freshness() == Freshness::Lost {
                    return Err(revocation_state_unknown());
                }
                Ok(Caller::User(Principal::new(&claims, token)))
            }
            _ => Err(crate::token::TokenError::Invalid("unknown type").into()),
        }
    }

    /// Passes while revocations are known to the second.
    ///
    /// # Errors
    /// `revocation_state_unknown` (unavailable).
    pub fn require_fresh(&self) -> Result<(), Error> {
        match self.revocations.freshness() {
            Freshness::Fresh => Ok(()),
            Freshness::Stale | Freshness::Lost => Err(revocation_state_unknown()),
        }
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

fn strip_scheme(bearer: &str) -> &str {
    match bearer.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer ") => token.trim(),
        _ => bearer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_an_order_and_one_name_each() {
        for (at, (role, name)) in Role::NAMES.into_iter().enumerate() {
            assert_eq!(role as usize, at);
            assert_eq!(name.parse::<Role>().unwrap(), role);
            assert_eq!(serde_json::to_value(role).unwrap(), name);
        }
        assert!(Role::SuperAdmin > Role::Admin && Role::Admin > Role::User);
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn a_scheme_is_passed_over() {
        for bearer in ["Bearer x.y.z", "bearer x.y.z", "BEARER  x.y.z", "x.y.z"] {
            assert_eq!(strip_scheme(bearer), "x.y.z");
        }
    }

    #[test]
    fn calls_without_a_caller_are_refused() {
        let mut request = tonic::Request::new(());
        assert_eq!(
            user(&request).unwrap_err().code(),
            tonic::Code::Unauthenticated
        );
        assert_eq!(
            service(&request).unwrap_err().code(),
            tonic::Code::Unauthenticated
        );
        request
            .extensions_mut()
            .insert(Caller::Service("gateway".into()));
        assert_eq!(service(&request).unwrap(), "gateway");
        assert_eq!(
            user(&request).unwrap_err().code(),
            tonic::Code::PermissionDenied
        );
    }

    #[test]
    fn money_needs_fresh_news() {
        let principal = Principal {
            user_id: Uuid::from_u128(1),
            session_id: Uuid::from_u128(2),
            role: Role::User,
            email_verified: true,
            grants_version: 0,
            expires_at: Timestamp::MAX,
            token: "secret-token".into(),
        };
        assert!(!format!("{principal:?}").contains("secret-token"));
        let mut request = tonic::Request::new(());
        request
            .extensions_mut()
            .insert(Caller::User(principal.clone()));
        assert_eq!(
            fresh_user(&request).unwrap_err().code(),
            tonic::Code::Unavailable
        );
        request.extensions_mut().insert(Freshness::Stale);
        assert_eq!(
            fresh_user(&request).unwrap_err().code(),
            tonic::Code::Unavailable
        );
        assert_eq!(user(&request).unwrap(), principal);
        request.extensions_mut().insert(Freshness::Fresh);
        assert_eq!(fresh_user(&request).unwrap(), principal);
    }
}
