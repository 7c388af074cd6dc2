//! Users and tokens.

use jiff::Timestamp;
use proto::identity::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;

use super::time_or_zero;

/// A user as seen by that user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    /// UUIDv7.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    id: String,
    /// Public wallet handle, which others pay to.
    #[schema(example = "KX48210735")]
    handle: String,
    #[schema(example = "Asha")]
    first_name: String,
    #[schema(example = "Rao")]
    last_name: String,
    #[schema(example = "asha@example.org")]
    email: String,
    /// Whether the address was confirmed.
    email_verified: bool,
    /// `user`, `support`, `compliance`, `admin` or `super_admin`.
    #[schema(example = "user")]
    role: String,
    /// IANA time zone.
    #[schema(example = "Asia/Kolkata")]
    time_zone: String,
    /// BCP 47 language tag.
    #[schema(example = "en-IN")]
    locale: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<pb::User> for User {
    fn from(user: pb::User) -> Self {
        Self {
            id: user.id,
            handle: user.handle,
            first_name: user.first_name,
            last_name: user.last_name,
            email: user.email,
            email_verified: user.email_verified,
            role: user.role,
            time_zone: user.time_zone,
            locale: user.locale,
            created_at: time_or_zero(user.created_at),
        }
    }
}

/// The user who registered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Registered {
    pub(crate) user: User,
}

/// What a client holds to act as a user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignedIn {
    /// Always `authenticated`.
    #[schema(example = "authenticated")]
    status: &'static str,
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds until the access token expires.
    #[schema(example = 900)]
    expires_in: i64,
    /// Exchange it at `/v1/auth/refresh`; works once.
    refresh_token: String,
    user: User,
}

impl SignedIn {
    pub(crate) fn new(tokens: Option<pb::TokenPair>, user: Option<pb::User>) -> Self {
        let tokens = tokens.unwrap_or_default();
        Self {
            status: "authenticated",
            access_token: tokens.access_token,
            token_type: "Bearer",
            expires_in: tokens.expires_in,
            refresh_token: tokens.refresh_token,
            user: user.unwrap_or_default().into(),
        }
    }
}

/// How many sessions were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ended {
    #[schema(example = 2)]
    pub(crate) ended: i64,
}

/// A user as seen by others.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundUser {
    /// UUIDv7.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    id: String,
    #[schema(example = "KX48210735")]
    handle: String,
    #[schema(example = "Asha")]
    first_name: String,
    #[schema(example = "Rao")]
    last_name: String,
}

impl From<pb::FoundUser> for FoundUser {
    fn from(user: pb::FoundUser) -> Self {
        let pb::FoundUser {
            id,
            handle,
            first_name,
            last_name,
        } = user;
        Self {
            id,
            handle,
            first_name,
            last_name,
        }
    }
}
