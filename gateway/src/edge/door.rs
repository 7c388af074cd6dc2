//! Who is let in, and how often.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use platform::principal::{Caller, Principal};
use platform::{Error, Kind};

use super::client_address::bucket;
use super::limits::{Outage, Standing};
use crate::app::App;
use crate::error::Failure;
use crate::extract::ClientAddress;

/// What a group of routes asks of those who come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing: signing in, registering. Counted by address even where a token comes along, so that nobody guesses
    /// passwords on a user's quota.
    Public,
    /// An access token. Counted by user.
    Member,
    /// As [`Class::Member`], and counted even while the store is away, by this process alone: ending one's sessions, which
    /// must not wait for it, and looking for people, which must not be guessed at.
    Account,
    /// Nothing yet: the token comes in the first frame. Counted by address.
    Stream,
}

/// Checks the token, counts the request, and tells where the client stands.
pub(crate) async fn admit(
    State((app, class)): State<(App, Class)>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match class {
        Class::Member | Class::Account => {
            Some(authenticate(&app, request.method(), request.headers()))
        }
        Class::Public | Class::Stream => None,
    };
    let bucket = request
        .extensions()
        .get::<ClientAddress>()
        .map(|address| bucket(address.0));
    let counted = Counted {
        class,
        caller: caller.as_ref(),
        bucket: bucket.unwrap_or_default(),
        is_safe: request.method().is_safe(),
    };
    let standing = match counted.count(&app).await {
        Ok(standing) => standing,
        Err(failure) => return failure.into_response(),
    };
    let refusal = standing.as_ref().and_then(Standing::refusal);
    let mut response = match (refusal, caller) {
        (Some(refusal), _) | (None, Some(Err(refusal))) => refusal.into_response(),
        (None, Some(Ok(principal))) => {
            tracing::Span::current().record("user.id", tracing::field::display(principal.user_id));
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        (None, None) => next.run(request).await,
    };
    if let Some(standing) = standing {
        standing.tell(response.headers_mut());
    }
    response
}

/// The user that the token names. What changes anything needs news of revocations to the second.
fn authenticate(app: &App, method: &Method, headers: &HeaderMap) -> Result<Principal, Failure> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Failure::token_missing());
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_at_checked(7))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer "))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or_else(Failure::token_missing)?;
    let principal = user(app, token)?;
    if !method.is_safe() {
        app.door.authenticator.require_fresh()?;
    }
    Ok(principal)
}

/// The user that an access token names. A service's own token opens no public door.
pub(crate) fn user(app: &App, token: &str) -> Result<Principal, Failure> {
    match app.door.authenticator.authenticate(token)? {
        Caller::User(principal) => Ok(principal),
        Caller::Service(_) => Err(Error::new(
            Kind::Unauthenticated,
            "token_invalid",
            "the token is not valid",
        )
        .into()),
    }
}

/// What a request is counted by.
struct Counted<'a> {
    class: Class,
    caller: Option<&'a Result<Principal, Failure>>,
    bucket: String,
    is_safe: bool,
}

impl Counted<'_> {
    async fn count(&self, app: &App) -> Result<Option<Standing>, Failure> {
        let limits = &app.door.limits;
        match (self.class, self.caller) {
            (_, Some(Ok(principal))) => {
                let outage = match (self.class, self.is_safe) {
                    (Class::Account, _) => Outage::Local,
                    (_, true) => Outage::Open,
                    (_, false) => Outage::Closed,
                };
                limits
                    .take(&limits.user, &principal.user_id.to_string(), outage)
                    .await
            }
            // Nobody pays for our not being able to check the token.
            (_, Some(Err(failure))) if failure.error().kind() == Kind::Unavailable => Ok(None),
            (Class::Stream, _) => {
                limits
                    .take(&limits.stream, &self.bucket, Outage::Local)
                    .await
            }
            _ => {
                limits
                    .take(&limits.anonymous, &self.bucket, Outage::Local)
                    .await
            }
        }
    }
}
