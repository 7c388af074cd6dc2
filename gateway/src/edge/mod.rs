//! What happens to every request before and after its handler.
//!
//! From the outside in: [`outermost`] (request id, trace, panics, problem documents, security headers), CORS,
//! [`refuse_odd_parameters`], [`shed`] (uploads have places of their own); then by group of routes compression, the
//! [`door`], the body limit and the [`time_limit`].

pub(crate) mod client_address;
pub(crate) mod door;
pub(crate) mod limits;
mod request_id;

use std::collections::HashSet;
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
use platform::{Error, FieldViolation, Kind, metrics};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{Instrument, Span, field};

use crate::app::App;
use crate::error::{Failure, render};
use crate::extract::{ClientAddress, query_pairs};
use crate::seats::Seat;

/// Requests that take longer than this are marked in the log.
const SLOW: Duration = Duration::from_secs(1);
/// Browsers may remember the answer to a preflight request for this long.
const PREFLIGHT_LIFE: Duration = Duration::from_secs(600);

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The other end of a connection, and the connection's place.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) place: Arc<Place>,
}

/// The place of a connection among those that may be open, and among those of its address.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) _of_all: OwnedSemaphorePermit,
    /// `None` for trusted proxies.
    pub(crate) _of_client: Option<Seat<String>>,
}

/// Gives the request an id and a span, and turns whatever comes back into an answer that may leave the house.
pub(crate) async fn outermost(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
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
    let method = metric_method(request.method());
    let route = route_of(&request).to_owned();
    let https_only = app.config.https_only;
    let work = async move {
        let start = Instant::now();
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = answer.unwrap_or_else(|panic| {
            tracing::error!(
                panic = platform::shutdown::panic_text(&*panic),
                "a handler panicked"
            );
            Failure::from(Error::internal(anyhow::anyhow!("a handler panicked"))).into_response()
        });
        let mut response = render(response, &path, &id);
        add_headers(response.headers_mut(), &id, is_versioned, https_only);
        record(&response, start.elapsed());
        metrics::http_answered(method, &route, response.status().as_u16(), start.elapsed());
        response
    };
    work.instrument(span).await
}

/// The pattern that the path matched: there are few of those, while a stranger may ask for any path.
fn route_of(request: &Request) -> &str {
    let route = request.extensions().get::<MatchedPath>();
    route.map_or("unknown", MatchedPath::as_str)
}

/// Methods that nobody has heard of are counted as one.
fn metric_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("_OTHER")
}

fn span_of(request: &Request, id: &str) -> Span {
    let route = route_of(request);
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
    if let Some(Ok(parent)) = request
        .headers()
        .get("traceparent")
        .map(HeaderValue::to_str)
    {
        platform::telemetry::set_parent(&span, parent);
    }
    span
}

fn record(response: &Response, took: Duration) {
    let status = response.status().as_u16();
    Span::current().record("http.response.status_code", status);
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if took > SLOW {
        tracing::warn!(
            http.status = status,
            duration_ms,
            slow = true,
            "request answered slowly"
        );
    } else {
        tracing::debug!(http.status = status, duration_ms, "request answered");
    }
}

fn add_headers(headers: &mut HeaderMap, id: &str, is_versioned: bool, https_only: bool) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    if is_versioned {
        set(CACHE_CONTROL, "no-store");
    }
    if https_only {
        set(
            STRICT_TRANSPORT_SECURITY,
            "max-age=63072000; includeSubDomains",
        );
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

/// Refuses preconditions of changes that nobody would check, and query parameters that stand twice, since they may mean
/// one thing to us and another to whoever checks before us, and those that the route does not know, since the client
/// believes that they do something.
pub(crate) async fn refuse_odd_parameters(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let known = request.extensions().get::<MatchedPath>().and_then(|route| {
        let key = (request.method().clone(), route.as_str().to_owned());
        app.caches
            .query_parameters
            .get(&key)
            .filter(|_| route.as_str().starts_with("/v1/"))
    });
    let checked = check_parameters(request.uri(), known)
        .and_then(|()| check_precondition(request.method(), request.uri(), request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => Failure::from(error).into_response(),
    }
}

/// A client that sends a precondition believes that nothing happens when it does not hold.
fn check_precondition(method: &Method, uri: &http::Uri, headers: &HeaderMap) -> Result<(), Error> {
    let is_checked = uri.path() == "/v1/me";
    if method.is_safe() || is_checked || !headers.contains_key(IF_MATCH) {
        return Ok(());
    }
    Err(Error::invalid_field(
        "If-Match",
        "is not checked on this resource; leave it out",
    ))
}

fn check_parameters(uri: &http::Uri, known: Option<&HashSet<String>>) -> Result<(), Error> {
    if uri.query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let mut seen = HashSet::new();
    let mut violations: Vec<FieldViolation> = Vec::new();
    for (name, _) in query_pairs(uri)? {
        let problem = if known.is_some_and(|known| !known.contains(&name)) {
            "is not a parameter of this request"
        } else if seen.contains(&name) {
            "must stand once only"
        } else {
            seen.insert(name);
            continue;
        };
        let shown: String = name.chars().take(64).collect();
        if violations.len() < 20 && violations.iter().all(|one| one.field != shown) {
            violations.push(FieldViolation::new(shown, problem));
        }
    }
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid(violations))
    }
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
    let origins = allowed
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
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

    #[tokio::test]
    async fn a_panic_becomes_a_problem_that_tells_nothing() {
        use platform::identity::Authenticator;
        use platform::rate_limit::MemoryRateLimitStore;
        use platform::test_kit::TestPlatform;
        use tower::ServiceExt;

        let platform = TestPlatform::start().await;
        let handles = platform.handles();
        let authenticator = Authenticator::new(handles.clock.clone(), &handles.keys);
        let nowhere: platform::grpc::client::Upstream = "http://127.0.0.1:1".parse().unwrap();
        let [auth, wallet, notify, scheduler] = std::array::from_fn(|_| nowhere.clone());
        let upstreams = crate::Upstreams {
            auth,
            wallet,
            notify,
            scheduler,
        };
        let tokens = authenticator.service_tokens().clone();
        let app = App::new(
            crate::GatewayConfig::default(),
            crate::clients::Clients::new(&upstreams, tokens, handles.clock.clone(), &handles.tasks),
            authenticator,
            Arc::new(MemoryRateLimitStore::new(handles.clock.clone())),
            handles.tasks.clone(),
            handles.health.clone(),
        );
        async fn broken() {
            panic!("password is hunter2");
        }
        let router = axum::Router::route(axum::Router::new(), "/v1/x", axum::routing::get(broken))
            .layer(axum::middleware::from_fn_with_state(app, outermost));
        let request = http::Request::builder()
            .uri("/v1/x")
            .body(axum::body::Body::empty());
        let response = router.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert!(response.headers().contains_key(X_REQUEST_ID));
        let body = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            body.contains("internal") && !body.contains("hunter2"),
            "{body}"
        );
    }

    #[test]
    fn a_precondition_that_nobody_checks_is_refused() {
        let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static("\"1\""))]);
        let check = |method: Method, path: &'static str| {
            check_precondition(&method, &http::Uri::from_static(path), &headers)
        };
        assert!(check(Method::PATCH, "/v1/me").is_ok());
        assert!(check(Method::GET, "/v1/accounts").is_ok());
        let refused = check(Method::POST, "/v1/sms/schedules/x/cancel").unwrap_err();
        assert_eq!(refused.violations()[0].field, "If-Match");
    }

    #[test]
    fn odd_parameters_are_all_named() {
        let fields = |query: &str, known: &[&str]| {
            let known = known.iter().map(|name| (*name).to_owned()).collect();
            let uri: http::Uri = format!("/v1/x?{query}").parse().unwrap();
            match check_parameters(&uri, Some(&known)) {
                Ok(()) => Vec::new(),
                Err(error) => error
                    .violations()
                    .iter()
                    .map(|one| one.field.clone())
                    .collect(),
            }
        };
        assert!(fields("a=1&b=2", &["a", "b"]).is_empty());
        assert!(fields("", &[]).is_empty());
        assert_eq!(fields("a=1&b=2&%61=3&a=4&b=1", &["a", "b"]), ["a", "b"]);
        assert_eq!(fields("a=1&c=2&c=3", &["a"]), ["c"]);
    }
}
