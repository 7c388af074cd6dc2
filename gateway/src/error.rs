//! Every refusal as one problem document (RFC 9457), written in one place.
//!
//! Handlers and layers return a [`Failure`]. It travels as an extension of an empty response to the outermost layer,
//! which knows the path and the request id and writes the body. Refusals of the HTTP stack itself (no such route,
//! wrong method) take the same way by their status.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use platform::{Error, Kind};
use serde::Serialize;
use utoipa::ToSchema;

/// Response header that marks an answer given before.
pub(crate) const REPLAYED: &str = "idempotency-replayed";

const ABOUT_BLANK: &str = "about:blank";
/// Problem types of the RateLimit draft.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// Why a request was not done.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Box<Inner>);

/// See [`Failure`], which is returned from everywhere and thus small.
#[derive(Debug, Clone)]
struct Inner {
    error: Error,
    status: StatusCode,
    problem_type: &'static str,
    violated_policies: Vec<String>,
    replayed: bool,
}

impl Failure {
    /// A refusal with a status that no error kind stands for.
    pub(crate) fn with_status(status: StatusCode, code: &'static str, detail: &str) -> Self {
        let kind = if status.is_server_error() {
            Kind::Internal
        } else {
            Kind::InvalidArgument
        };
        let mut failure = Self::from(Error::new(kind, code, detail));
        failure.0.status = status;
        failure
    }

    /// Too many requests under a policy.
    pub(crate) fn quota_exceeded(policy: &str, retry_after: Duration) -> Self {
        let error = Error::new(
            Kind::RateLimited,
            "rate_limited",
            format!("the quota of the policy `{policy}` is used up"),
        );
        Self::from(error.with_retry_after(retry_after)).violating(QUOTA_EXCEEDED, policy)
    }

    /// More requests at once than we take.
    pub(crate) fn overloaded() -> Self {
        let error = Error::unavailable("overloaded", "too many requests are being worked on")
            .with_retry_after(Duration::from_secs(1));
        Self::from(error).violating(REDUCED_CAPACITY, "concurrency")
    }

    fn violating(mut self, problem_type: &'static str, policy: &str) -> Self {
        self.0.problem_type = problem_type;
        self.0.violated_policies = vec![policy.to_owned()];
        self
    }

    /// No credentials at all.
    pub(crate) fn token_missing() -> Self {
        Error::new(
            Kind::Unauthenticated,
            "token_missing",
            "send an access token as `Authorization: Bearer …`",
        )
        .into()
    }

    /// What went wrong.
    pub(crate) fn error(&self) -> &Error {
        &self.0.error
    }

    /// The status of the answer.
    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The same refusal with the fields named as the client knows them.
    pub(crate) fn rename_field(mut self, from: &str, to: &str) -> Self {
        if self
            .0
            .error
            .violations()
            .iter()
            .any(|one| one.field == from)
        {
            let renamed = self
                .0
                .error
                .violations()
                .iter()
                .cloned()
                .map(|mut one| {
                    if one.field == from {
                        to.clone_into(&mut one.field);
                    }
                    one
                })
                .collect();
            self.0.error = Error::invalid(renamed);
        }
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status =
            StatusCode::from_u16(error.kind().http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(Box::new(Inner {
            error,
            status,
            problem_type: ABOUT_BLANK,
            violated_policies: Vec::new(),
            replayed: false,
        }))
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let error = Error::from_status(&status);
        if error.kind() == Kind::Internal {
            // Its cause was logged where it happened, unless it never came so far.
            tracing::warn!(
                grpc.code = ?status.code(),
                grpc.message = status.message(),
                "a service failed"
            );
        }
        let error = if error.kind() == Kind::Unavailable && error.retry_after().is_none() {
            error.with_retry_after(Duration::from_secs(1))
        } else {
            error
        };
        let mut failure = Self::from(error);
        failure.0.replayed = platform::grpc::is_replayed(status.metadata());
        failure
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// URI of the kind of problem; `about:blank` when `code` says it all.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    problem_type: &'static str,
    /// Name of the status.
    #[schema(example = "Conflict")]
    title: &'static str,
    /// HTTP status.
    #[schema(example = 409)]
    status: u16,
    /// Stable reason, for programs.
    #[schema(example = "insufficient_funds")]
    code: String,
    /// What happened, for a person.
    #[schema(example = "the account holds less than that")]
    detail: String,
    /// Path of the request.
    #[schema(example = "/v1/transfers")]
    instance: String,
    /// Id of the request, as in `X-Request-Id`.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    request_id: String,
    /// The fields that are wrong.
    violations: Vec<Violation>,
    /// Policies of `RateLimit-Policy` that the request broke.
    #[serde(rename = "violated-policies", skip_serializing_if = "Vec::is_empty")]
    violated_policies: Vec<String>,
}

/// One field of the request and what is wrong with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Violation {
    /// Path of the field, e.g. `amount.amount_minor`.
    #[schema(example = "amount.amount_minor")]
    field: String,
    /// What is wrong, for a person.
    #[schema(example = "must be a whole number")]
    description: String,
}

/// Marks an answer with an error status that is not to become a problem document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsItIs;

/// Writes the problem document of a refusal; leaves every other answer as it is.
pub(crate) fn render(response: Response, path: &str, request_id: &str) -> Response {
    let status = response.status();
    if response.extensions().get::<AsItIs>().is_some() {
        return response;
    }
    let failure = match response.extensions().get::<Arc<Failure>>() {
        Some(failure) => Arc::clone(failure),
        None if status.is_client_error() || status.is_server_error() => Arc::new(bare(status)),
        None => return response,
    };
    let Failure(failure) = &*failure;
    let error = &failure.error;
    let problem = Problem {
        problem_type: failure.problem_type,
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        code: error.reason().to_owned(),
        detail: error.message().to_owned(),
        instance: path.to_owned(),
        request_id: request_id.to_owned(),
        violations: error
            .violations()
            .iter()
            .map(|one| Violation {
                field: one.field.clone(),
                description: one.description.clone(),
            })
            .collect(),
        violated_policies: failure.violated_policies.clone(),
    };
    // A struct of strings and numbers always has a JSON form.
    let body = serde_json::to_vec(&problem).unwrap_or_default();

    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if let Some(after) = error.retry_after() {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        parts
            .headers
            .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if status == StatusCode::UNAUTHORIZED {
        parts.headers.insert(WWW_AUTHENTICATE, challenge(error));
    }
    if failure.replayed {
        parts
            .headers
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Response::from_parts(parts, Body::from(body))
}

/// The challenge of RFC 6750; the reason is named only where a token was sent.
fn challenge(error: &Error) -> HeaderValue {
    HeaderValue::from_static(match error.reason() {
        "token_expired" => {
            r#"Bearer realm="coffer", error="invalid_token", error_description="expired""#
        }
        "token_revoked" => {
            r#"Bearer realm="coffer", error="invalid_token", error_description="revoked""#
        }
        "token_invalid" => r#"Bearer realm="coffer", error="invalid_token""#,
        _ => r#"Bearer realm="coffer""#,
    })
}

/// A refusal of the HTTP stack, of which only the status is known.
fn bare(status: StatusCode) -> Failure {
    let (code, detail) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is no such route"),
        StatusCode::METHOD_NOT_ALLOWED => (
            "method_not_allowed",
            "this route does not answer that method",
        ),
        StatusCode::REQUEST_TIMEOUT => ("request_timeout", "the request took too long to arrive"),
        StatusCode::PAYLOAD_TOO_LARGE => ("payload_too_large", "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            "unsupported_media_type",
            "the body is of a type that this route does not read",
        ),
        _ if status.is_client_error() => ("bad_request", "the request cannot be read"),
        _ => ("internal", "something went wrong on our side"),
    };
    Failure::with_status(status, code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn rendered(response: Response) -> (http::response::Parts, serde_json::Value) {
        let (parts, body) = render(response, "/v1/x", "id-1").into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn an_internal_cause_stays_inside() {
        let failure = Failure::from(Error::internal(anyhow::anyhow!("password is hunter2")));
        let (parts, body) = rendered(failure.into_response()).await;
        assert_eq!(parts.status, 500);
        assert_eq!(body["code"], "internal");
        assert!(!body.to_string().contains("hunter2"));
    }

    #[tokio::test]
    async fn a_refusal_of_the_stack_becomes_a_problem() {
        let (parts, body) = rendered(StatusCode::METHOD_NOT_ALLOWED.into_response()).await;
        assert_eq!(parts.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(body["code"], "method_not_allowed");
        assert_eq!(body["instance"], "/v1/x");
        assert_eq!(body["request_id"], "id-1");
    }

    #[tokio::test]
    async fn retry_after_is_never_too_early() {
        let failure = Failure::quota_exceeded("anonymous", Duration::from_millis(1_001));
        let (parts, body) = rendered(failure.into_response()).await;
        assert_eq!(parts.headers[RETRY_AFTER], "2");
        assert_eq!(body["type"], QUOTA_EXCEEDED);
        assert_eq!(body["violated-policies"][0], "anonymous");
    }

    #[tokio::test]
    async fn a_replayed_refusal_is_marked() {
        let mut status = tonic::Status::from(Error::conflict("insufficient_funds", "too little"));
        status.metadata_mut().insert(
            REPLAYED,
            tonic::metadata::MetadataValue::from_static("true"),
        );
        let (parts, body) = rendered(Failure::from(status).into_response()).await;
        assert_eq!(parts.status, 409);
        assert_eq!(parts.headers[REPLAYED], "true");
        assert_eq!(body["code"], "insufficient_funds");
    }

    #[tokio::test]
    async fn a_refused_token_is_challenged() {
        let error = Error::new(Kind::Unauthenticated, "token_expired", "expired");
        let (parts, _) = rendered(Failure::from(error).into_response()).await;
        assert!(
            parts.headers[WWW_AUTHENTICATE]
                .to_str()
                .unwrap()
                .contains("invalid_token")
        );
        let (parts, _) = rendered(Failure::token_missing().into_response()).await;
        assert_eq!(parts.headers[WWW_AUTHENTICATE], r#"Bearer realm="coffer""#);
    }

    #[test]
    fn fields_are_named_as_the_client_knows_them() {
        let failure = Failure::from(Error::invalid_field("query", "is too short"));
        let failure = failure.rename_field("query", "q");
        assert_eq!(failure.error().violations()[0].field, "q");
        assert_eq!(failure.status(), 400);
    }
}
