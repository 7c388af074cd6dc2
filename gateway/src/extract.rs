//! What handlers ask of a request. The list of a handler's arguments is the list of what must hold before it runs.

use std::net::IpAddr;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, IF_MATCH, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError};
use platform::principal::Principal;
use platform::{Error, Kind};
use proto::identity::v1::ClientContext;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::app::App;
use crate::clients::Reply;
use crate::decode;
use crate::error::{Failure, REPLAYED};

/// Longest idempotency key, in bytes.
const LONGEST_KEY: usize = 255;
/// Longest User-Agent that is passed on, in bytes.
const LONGEST_USER_AGENT: usize = 512;

/// The user whose access token came along; checked at the door.
#[derive(Debug, Clone)]
pub(crate) struct AuthUser(pub(crate) Principal);

impl AuthUser {
    /// A request to a service on behalf of this user.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        platform::grpc::client::as_user(message, &self.0.token)
    }
}

impl FromRequestParts<App> for AuthUser {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failure> {
        // The door of every member route puts it there; without it nobody gets in.
        parts
            .extensions
            .get::<Principal>()
            .cloned()
            .map(Self)
            .ok_or_else(Failure::token_missing)
    }
}

/// The address of the client, seen through trusted proxies only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Where a call came from, for auth-service.
pub(crate) struct Client(pub(crate) ClientContext);

impl FromRequestParts<App> for Client {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failure> {
        let ip = parts
            .extensions
            .get::<ClientAddress>()
            .map(|address| address.0.to_string());
        let user_agent = parts
            .headers
            .get(USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .map(|mut text| {
                text.truncate(text.floor_char_boundary(LONGEST_USER_AGENT));
                text
            });
        Ok(Self(ClientContext {
            ip: ip.unwrap_or_default(),
            user_agent: user_agent.unwrap_or_default(),
        }))
    }
}

/// The `Idempotency-Key` of a call that must happen once: 1 to 255 visible ASCII characters.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(pub(crate) String);

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failure> {
        let refuse = |what: &str| Failure::from(Error::invalid_field("Idempotency-Key", what));
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Err(refuse("is missing"));
        };
        if values.next().is_some() {
            return Err(refuse("must stand once only"));
        }
        let bytes = value.as_bytes();
        if bytes.is_empty() || bytes.len() > LONGEST_KEY || !bytes.iter().all(u8::is_ascii_graphic)
        {
            return Err(refuse("must be 1 to 255 visible ASCII characters"));
        }
        Ok(Self(bytes.iter().copied().map(char::from).collect()))
    }
}

/// The `If-Match` of a change to something with a version; nothing or `*` means any version.
pub(crate) struct IfMatch(pub(crate) Option<i64>);

impl FromRequestParts<App> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get(IF_MATCH) else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let version = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .and_then(|digits| digits.parse::<i64>().ok());
        match version {
            Some(version) => Ok(Self(Some(version))),
            // A tag that we never gave matches no version.
            None => Err(Error::new(
                Kind::PreconditionFailed,
                "version_mismatch",
                "If-Match names no version of this resource",
            )
            .into()),
        }
    }
}

/// The entity tag of a version.
pub(crate) fn etag(version: i64) -> HeaderValue {
    // Digits in quotes are always a header value.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The `id` in the path.
pub(crate) struct Id(pub(crate) String);

impl FromRequestParts<App> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &App) -> Result<Self, Failure> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Error::invalid_field("id", "must be a UUID"))?;
        let id: Uuid = platform::id::parse("id", &text)?;
        Ok(Self(id.to_string()))
    }
}

/// Query parameters; unknown and repeated ones are refused.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failure> {
        Ok(Self(decode::query(query_pairs(&parts.uri)?)?))
    }
}

/// Names and values of a query string.
pub(crate) fn query_pairs(uri: &http::Uri) -> Result<Vec<(String, String)>, Error> {
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|query| query.0)
        .map_err(|_| Error::invalid_field("query", "cannot be read"))
}

/// A JSON body; unknown fields are refused and every problem is named by its path.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        require_content_type(request.headers(), "application/json")?;
        let body = tokio::time::timeout(app.body_timeout(), request.into_body().collect())
            .await
            .map_err(|_| body_too_slow())?
            .map_err(|error| broken_body(&error))?
            .to_bytes();
        Ok(Self(decode::json(&body)?))
    }
}

/// Refuses a body of another type than `wanted`, in another character set than UTF-8, or encoded: it would be read as
/// what it is not.
pub(crate) fn require_content_type(
    headers: &http::HeaderMap,
    wanted: &'static str,
) -> Result<(), Failure> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let is_wanted = parts
        .next()
        .unwrap_or_default()
        .eq_ignore_ascii_case(wanted);
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let value = value.trim().trim_matches('"');
            value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("us-ascii")
        }
        _ => true,
    });
    let is_plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if is_wanted && is_utf8 && is_plain {
        return Ok(());
    }
    Err(Failure::with_status(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        &format!("send the body as {wanted}, in UTF-8 and not encoded"),
    ))
}

/// The body did not arrive in time.
pub(crate) fn body_too_slow() -> Failure {
    Failure::with_status(
        StatusCode::REQUEST_TIMEOUT,
        "request_timeout",
        "the body took too long to arrive",
    )
}

/// A body that cannot be read to its end: it is too large, or the client went away.
pub(crate) fn broken_body(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Failure::with_status(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "the body is larger than this route takes",
            );
        }
        cause = error.source();
    }
    Failure::with_status(
        StatusCode::BAD_REQUEST,
        "bad_request",
        "the body ended too early",
    )
}

/// 201 with a body, marked when the answer was given before.
pub(crate) struct Created<T> {
    pub(crate) body: T,
    pub(crate) replayed: bool,
}

impl<T> Created<T> {
    /// The view of a reply.
    pub(crate) fn from_reply<M>(reply: Reply<M>, view: impl FnOnce(M) -> T) -> Self {
        Self {
            body: view(reply.message),
            replayed: reply.replayed,
        }
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, axum::Json(self.body)).into_response();
        if self.replayed {
            response
                .headers_mut()
                .insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
