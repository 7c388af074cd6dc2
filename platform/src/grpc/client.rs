//! Calls to other services.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri};
use jiff::Timestamp;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::Service;

use super::{CONNECTION_WINDOW, CURRENT_DEADLINE, DEFAULT_DEADLINE, deadline_exceeded, timeout};
use crate::Error;
use crate::token::ServiceTokens;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(20);
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// A connection to another service that is made when it is needed and made again when it breaks. Cheap to clone.
///
/// Calls carry the trace of the current span, and a deadline: the one of the request, else what is left to the call
/// that is being answered, else 10 s. For streams it counts until the first answer.
#[derive(Debug, Clone)]
pub struct GrpcChannel {
    inner: Channel,
}

/// A channel to the service at `uri`. Connects with the first call.
pub fn channel(uri: Uri) -> GrpcChannel {
    let inner = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy();
    GrpcChannel { inner }
}

/// A request on behalf of a user, with the user's access token.
pub fn as_user<T>(message: T, token: &str) -> tonic::Request<T> {
    with_token(message, token)
}

/// A request of a service on its own behalf. `service` is the name of the caller, `now` the time of its clock.
pub fn as_service<T>(
    message: T,
    tokens: &ServiceTokens,
    service: &str,
    now: Timestamp,
) -> tonic::Request<T> {
    let token: Arc<str> = tokens.issue(service, now);
    with_token(message, &token)
}

fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    // A token that cannot stand in a header is no token; the call is refused where it arrives.
    if let Ok(mut value) = MetadataValue::try_from(format!("Bearer {token}")) {
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// Makes a call that changes nothing; tries up to three times while the other side is unavailable.
///
/// # Errors
/// Those of the last try.
pub async fn retry_safe<T, F, Fut>(call: F) -> Result<T, Status>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match call().await {
            Err(status) if status.code() == Code::Unavailable => {}
            outcome => return outcome,
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        pause *= 4;
    }
    call().await
}

impl Service<Request<Body>> for GrpcChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| unreachable(&error))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(parent) = crate::telemetry::current_traceparent()
            && let Ok(value) = HeaderValue::from_str(&parent)
        {
            request.headers_mut().insert("traceparent", value);
        }
        let allowed = allowed(timeout::read(request.headers()));
        request
            .headers_mut()
            .insert(timeout::GRPC_TIMEOUT, timeout::write(allowed));
        let deadline = Instant::now() + allowed;
        // `poll_ready` reserved a place in this very channel; the copy that stays has none yet.
        let fresh = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            match tokio::time::timeout_at(deadline, ready.call(request)).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(unreachable(&error)),
                Err(_) => Err(deadline_exceeded().into()),
            }
        })
    }
}

/// How long a call may take: what it asks for, but never longer than the call on whose behalf it is made.
fn allowed(asked: Option<Duration>) -> Duration {
    let left = CURRENT_DEADLINE
        .try_with(|deadline| deadline.0.saturating_duration_since(Instant::now()))
        .unwrap_or(Duration::MAX);
    asked
        .unwrap_or(DEFAULT_DEADLINE)
        .min(left)
        .min(Duration::from_secs(3600))
}

/// The other side did not answer. Whether it did the work is not known.
fn unreachable(error: &tonic::transport::Error) -> Status {
    use std::error::Error as _;
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::debug!(%error, cause, "a service cannot be reached");
    Error::unavailable("upstream_unavailable", "the service does not answer").into()
}
