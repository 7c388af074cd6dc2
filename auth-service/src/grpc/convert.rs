//! Protobuf to domain and back.

use platform::time::{from_micros, to_proto};
use proto::identity::v1 as api;

use crate::commands::{Client, SignedIn};
use crate::storage::users::{Found, User};

pub(super) fn client(context: Option<api::ClientContext>) -> Client {
    let context = context.unwrap_or_default();
    Client::new(&context.ip, &context.user_agent)
}

pub(super) fn user(user: User) -> api::User {
    api::User {
        id: user.id.to_string(),
        handle: user.handle,
        first_name: user.first_name,
        last_name: user.last_name,
        email: user.email,
        email_verified: user.email_verified,
        role: user.role,
        time_zone: user.time_zone,
        locale: user.locale,
        version: user.version,
        created_at: Some(to_proto(from_micros(user.created_at))),
    }
}

pub(super) fn signed_in(signed_in: SignedIn) -> (Option<api::TokenPair>, Option<api::User>) {
    let tokens = signed_in.tokens;
    let pair = api::TokenPair {
        access_token: tokens.access_token,
        expires_in: i64::try_from(tokens.expires_in.as_secs()).unwrap_or(i64::MAX),
        refresh_token: tokens.refresh_token,
        refresh_expires_at: Some(to_proto(tokens.refresh_expires_at)),
    };
    (Some(pair), Some(user(signed_in.user)))
}

/// Never the address.
pub(super) fn found(found: Found) -> api::FoundUser {
    api::FoundUser {
        id: found.id.to_string(),
        handle: found.handle,
        first_name: found.first_name,
        last_name: found.last_name,
    }
}
