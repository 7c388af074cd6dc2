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
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use super::balance::Balancer;
pub use super::upstream::Upstream;
use super::{CURRENT_DEADLINE, DEFAULT_DEADLINE, deadline_exceeded, timeout};
use crate::token::ServiceTokens;
use crate::{Error, Tasks};

const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// The connections to another service: made when they are needed, made again when they break, and spread over its
/// replicas. Cheap to clone.
///
/// Calls carry the trace of the current span, and a deadline: the one of the request, else what is left to the call
/// that is being answered, else 10 s. For streams it counts until the first answer.
#[derive(Debug, Clone)]
pub struct GrpcChannel {
    balancer: Arc<Balancer>,
}

/// A channel to the one process at `uri`. Connects with the first call.
pub fn channel(uri: Uri) -> GrpcChannel {
    let balancer = Arc::new(Balancer::of_one(&uri.into()));
    GrpcChannel { balancer }
}

/// A channel to the replicas of a service. Connects with the first call. What watches the replicas runs in `tasks` and
/// ends with the channel.
pub fn balanced(upstream: &Upstream, tasks: &Tasks) -> GrpcChannel {
    let balancer = Arc::new(Balancer::start(upstream, tasks));
    GrpcChannel { balancer }
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
    retry_keyed(|status| status.code() == Code::Unavailable, call).await
}

/// Makes a call that may be made twice, because it changes nothing or carries an idempotency key; tries up to three times
/// while `is_lost` says of the outcome that another try may help.
///
/// # Errors
/// Those of the last try.
pub async fn retry_keyed<T, F, Fut>(is_lost: fn(&Status) -> bool, call: F) -> Result<T, Status>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match call().await {
            Err(status) if is_lost(&status) => {}
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

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // Which replica takes the call is decided when it is made.
        Poll::Ready(Ok(()))
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
        let picked = self.balancer.pick();
        Box::pin(async move {
            let Some(picked) = picked else {
                return Err(unreachable(None));
            };
            let answer = picked.channel().oneshot(request);
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(unreachable(Some(&error))),
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
fn unreachable(error: Option<&tonic::transport::Error>) -> Status {
    use std::error::Error as _;
    let cause = error
        .and_then(|error| error.source())
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::debug!(cause, "a service cannot be reached");
    Error::unavailable("upstream_unavailable", "the service does not answer").into()
}
