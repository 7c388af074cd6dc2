//! What happens to every request before and after its handler.
//!
//! From the outside in: [`outermost`] (request id, trace, panics, problem documents, security headers), CORS, [`shed`],
//! [`refuse_repeated_parameters`]; then by group of routes compression, the [`door`], the body limit and the
//! [`time_limit`].

pub(crate) mod client_address;
pub(crate) mod door;
pub(crate) mod limits;
mod request_id;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_MATCH,
    REFERRER_POLICY, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use platform::{Error, FieldViolation, Kind};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{Instrument, Span, field};

use crate::app::App;
use crate::error::{Failure, render};
use crate::extract::{ClientAddress, query_pairs};

/// Requests that take longer than this are marked in the log.
const SLOW: Duration = Duration::from_secs(1);
/// Browsers may remember the answer to a preflight request for this long.
const PREFLIGHT_LIFE: Duration = Duration::from_secs(600);

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The other end of a connection, and the connection's place among those that may be open.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

/// Gives the request an id and a span, and turns whatever comes back into an answer that may leave the house.
pub(crate) async fn outermost(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = request_id::of(request.headers(), app.clock().now());
    let path = request.uri().path().to_owned();
    let is_versioned = path.starts_with("/v1/");
    let peer = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
    let client = client_address::resolve(peer, request.headers(), &app.door.trusted_proxies);
    request.extensions_mut().insert(ClientAddress(client));

    let span = span_of(&request, &id);
    let https_only = app.config.https_only;
    let work = async move {
        let start = Instant::now();
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = answer.unwrap_or_else(|panic| {
            tracing::error!(panic = panic_text(&*panic), "a handler panicked");
            Failure::from(Error::internal(anyhow::anyhow!("a handler panicked"))).into_response()
        });
        let mut response = render(response, &path, &id);
        add_headers(response.headers_mut(), &id, is_versioned, https_only);
        record(&response, start.elapsed());
        response
    };
    work.instrument(span).await
}

fn span_of(request: &Request, id: &str) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{} {route}", request.method()),
        otel.kind = "server",
        http.request.method = %request.method(),
        http.route = route,
        http.response.status_code = field::Empty,
        request.id = id,
        user.id = field::Empty,
    );
    if let Some(Ok(parent)) = request.headers().get("traceparent").map(HeaderValue::to_str) {
        platform::telemetry::set_parent(&span, parent);
    }
    span
}

fn record(response: &Response, took: Duration) {
    let status = response.status().as_u16();
    Span::current().record("http.response.status_code", status);
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if took > SLOW {
        tracing::warn!(http.status = status, duration_ms, slow = true, "request answered slowly");
    } else {
        tracing::debug!(http.status = status, duration_ms, "request answered");
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

fn add_headers(headers: &mut HeaderMap, id: &str, is_versioned: bool, https_only: bool) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if is_versioned {
        set(CACHE_CONTROL, "no-store");
    }
    if https_only {
        set(STRICT_TRANSPORT_SECURITY, "max-age=63072000; includeSubDomains");
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(X_REQUEST_ID, value);
    }
    if let Some(trace) = platform::telemetry::current_traceparent()
        && let Ok(value) = HeaderValue::from_str(&trace)
    {
        headers.insert("traceresponse", value);
    }
}

/// Refuses at once what would only wait.
pub(crate) async fn shed(State(app): State<App>, request: Request, next: Next) -> Response {
    // Whoever watches must see that we are alive.
    if request.uri().path().starts_with("/health/") {
        return next.run(request).await;
    }
    match app.door.places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => Failure::overloaded().into_response(),
    }
}

/// A parameter that stands twice may mean one thing to us and another to whoever checks before or after us.
pub(crate) async fn refuse_repeated_parameters(request: Request, next: Next) -> Response {
    match repeated_parameters(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure::from(error).into_response(),
    }
}

fn repeated_parameters(request: &Request) -> Result<(), Error> {
    if request.uri().query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let mut names: Vec<_> =
        query_pairs(request.uri())?.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let mut violations: Vec<FieldViolation> = names
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .map(|pair| {
            let name: String = pair[0].chars().take(64).collect();
            FieldViolation::new(name, "must stand once only")
        })
        .collect();
    violations.dedup();
    violations.truncate(20);
    if violations.is_empty() { Ok(()) } else { Err(Error::invalid(violations)) }
}

/// Answers for a handler that does not.
pub(crate) async fn time_limit(
    State(limit): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::from(
            Error::new(Kind::Timeout, "timeout", "there was no answer in time")
                .with_retry_after(Duration::from_secs(1)),
        )
        .into_response(),
    }
}

/// Lets the configured origins call from browsers.
pub(crate) fn cors(allowed: &[String]) -> CorsLayer {
    let origins = allowed.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            IF_MATCH,
            X_REQUEST_ID,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("traceparent"),
        ])
        .expose_headers([
            ETAG,
            RETRY_AFTER,
            WWW_AUTHENTICATE,
            X_REQUEST_ID,
            HeaderName::from_static("idempotency-replayed"),
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            HeaderName::from_static("traceresponse"),
        ])
        .max_age(PREFLIGHT_LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn parameters_that_stand_twice_are_all_named() {
        let request = |query: &str| {
            http::Request::builder().uri(format!("/v1/x?{query}")).body(Body::empty()).unwrap()
        };
        assert!(repeated_parameters(&request("a=1&b=2")).is_ok());
        assert!(repeated_parameters(&request("")).is_ok());
        let error = repeated_parameters(&request("a=1&b=2&%61=3&a=4&b=1")).unwrap_err();
        let fields: Vec<_> = error.violations().iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["a", "b"]);
    }
}
