//! The services behind the gateway.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use platform::Tasks;
use platform::grpc::client::{self, GrpcChannel, Upstream};
use platform::token::ServiceTokens;
use platform::{Error, Kind, SharedClock};
use proto::identity::v1::identity_client::IdentityClient;
use proto::notify::v1::notify_client::NotifyClient;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use proto::wallet::v1::wallet_client::WalletClient;
use tonic::{Code, Request, Response, Status};

use crate::error::Failure;
use crate::extract::AuthUser;

/// Name under which the gateway calls services on its own behalf.
pub(crate) const SELF: &str = "gateway";
/// Names of the services, in the order of [`Clients::channels`].
pub(crate) const SERVICES: [&str; 4] = [
    "auth-service",
    "wallet-service",
    "notify-service",
    "scheduler-service",
];
/// Connections over which the streams of all sockets are spread.
const STREAM_CHANNELS: usize = 4;

/// Where each service answers gRPC.
#[derive(Debug, Clone)]
pub struct Upstreams {
    /// auth-service.
    pub auth: Upstream,
    /// wallet-service.
    pub wallet: Upstream,
    /// notify-service.
    pub notify: Upstream,
    /// scheduler-service.
    pub scheduler: Upstream,
}

/// Clients of every service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Clients {
    channels: [GrpcChannel; 4],
    streams: Arc<Streams>,
    tokens: ServiceTokens,
    clock: SharedClock,
}

/// Long-lived streams have connections of their own, so that one full of unread events delays no call.
struct Streams {
    channels: Vec<GrpcChannel>,
    next: AtomicUsize,
}

impl Clients {
    pub(crate) fn new(
        upstreams: &Upstreams,
        tokens: ServiceTokens,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> Self {
        let Upstreams {
            auth,
            wallet,
            notify,
            scheduler,
        } = upstreams;
        let channels =
            [auth, wallet, notify, scheduler].map(|upstream| client::balanced(upstream, tasks));
        let streams = (0..STREAM_CHANNELS)
            .map(|_| client::balanced(notify, tasks))
            .collect();
        let streams = Arc::new(Streams {
            channels: streams,
            next: AtomicUsize::new(0),
        });
        Self {
            channels,
            streams,
            tokens,
            clock,
        }
    }

    /// One channel per service, in the order of [`SERVICES`].
    pub(crate) fn channels(&self) -> &[GrpcChannel; 4] {
        &self.channels
    }

    pub(crate) fn identity(&self) -> IdentityClient<GrpcChannel> {
        IdentityClient::new(self.channels[0].clone())
    }

    pub(crate) fn wallet(&self) -> WalletClient<GrpcChannel> {
        WalletClient::new(self.channels[1].clone())
    }

    pub(crate) fn notify(&self) -> NotifyClient<GrpcChannel> {
        NotifyClient::new(self.channels[2].clone())
    }

    pub(crate) fn scheduler(&self) -> SchedulerClient<GrpcChannel> {
        SchedulerClient::new(self.channels[3].clone())
    }

    /// notify-service for a stream that stays open.
    pub(crate) fn notify_stream(&self) -> NotifyClient<GrpcChannel> {
        let Streams { channels, next } = &*self.streams;
        let place = next.fetch_add(1, Ordering::Relaxed) % channels.len();
        NotifyClient::new(channels[place].clone())
    }

    /// A request of the gateway on its own behalf, for calls that have no user yet.
    pub(crate) fn edge<T>(&self, message: T) -> Request<T> {
        client::as_service(message, &self.tokens, SELF, self.clock.now())
    }
}

/// An answer and whether it was given before.
pub(crate) struct Reply<T> {
    pub(crate) message: T,
    pub(crate) replayed: bool,
}

/// Makes a call that changes nothing, again if the service is away for a moment.
pub(crate) async fn read<M, T, F, Fut>(user: &AuthUser, message: M, call: F) -> Result<T, Failure>
where
    M: Clone,
    F: Fn(Request<M>) -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let response = client::retry_safe(|| call(user.request(message.clone()))).await?;
    Ok(response.into_inner())
}

/// Makes a call with an idempotency key, and again with the same key while the service cannot be reached: the key makes
/// it safe, and another replica may answer. Where no answer came, in time or at all, nobody knows whether it was done; the
/// client may ask again with the same key.
pub(crate) async fn keyed<M, T, F, Fut>(
    user: &AuthUser,
    message: M,
    call: F,
) -> Result<Reply<T>, Failure>
where
    M: Clone,
    F: Fn(Request<M>) -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let outcome = client::retry_keyed(is_lost, || call(user.request(message.clone()))).await;
    read_keyed(outcome)
}

fn read_keyed<T>(outcome: Result<Response<T>, Status>) -> Result<Reply<T>, Failure> {
    match outcome {
        Ok(response) => {
            let replayed = platform::grpc::is_replayed(response.metadata());
            Ok(Reply {
                message: response.into_inner(),
                replayed,
            })
        }
        Err(status) if is_unanswered(&status) => {
            tracing::warn!(
                grpc.code = ?status.code(),
                grpc.message = status.message(),
                "a call with a key was not answered"
            );
            Err(outcome_unknown().into())
        }
        Err(status) => Err(status.into()),
    }
}

/// Whether the connection broke before an answer came, and there may still be time for another try.
fn is_lost(status: &Status) -> bool {
    is_unanswered(status) && Error::from_status(status).kind() != Kind::Timeout
}

/// Whether a status is not the word of the service. Our own refusals carry details; those of a transport do not, or they
/// say that the service could not be reached, which does not tell whether it was before or after the request.
fn is_unanswered(status: &Status) -> bool {
    let error = Error::from_status(status);
    let is_of_transport = status.details().is_empty()
        && matches!(
            status.code(),
            Code::Cancelled
                | Code::DataLoss
                | Code::Internal
                | Code::OutOfRange
                | Code::ResourceExhausted
                | Code::Unavailable
                | Code::Unknown
        );
    error.kind() == Kind::Timeout || error.reason() == "upstream_unavailable" || is_of_transport
}

fn outcome_unknown() -> Error {
    Error::new(
        Kind::Timeout,
        "outcome_unknown",
        "there was no answer; send the same request with the same key again",
    )
    .with_retry_after(std::time::Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyed_call_without_an_answer_has_an_unknown_outcome() {
        let late = read_keyed::<()>(Err(Status::deadline_exceeded("too late")))
            .err()
            .unwrap();
        assert_eq!(late.error().reason(), "outcome_unknown");
        assert_eq!(late.status(), 503);
    }

    #[test]
    fn a_broken_connection_leaves_the_outcome_unknown() {
        let unreachable = Error::unavailable("upstream_unavailable", "the service does not answer");
        for broken in [
            unreachable.into(),
            Status::unavailable("tcp"),
            Status::unknown("transport error"),
            Status::internal("h2 protocol error: error reading a body from connection"),
            Status::cancelled("operation was canceled"),
        ] {
            let failure = read_keyed::<()>(Err(broken)).err().unwrap();
            assert_eq!(failure.error().reason(), "outcome_unknown");
            assert_eq!(failure.status(), 503);
        }
    }

    #[test]
    fn only_what_was_lost_is_tried_again() {
        assert!(is_lost(&Status::unavailable("tcp")));
        assert!(!is_lost(&Status::deadline_exceeded("too late")));
        assert!(!is_lost(
            &Error::conflict("insufficient_funds", "too little").into()
        ));
    }

    #[test]
    fn the_word_of_the_service_stays() {
        for error in [
            Error::conflict("insufficient_funds", "too little"),
            Error::unavailable("overloaded", "too much to do"),
            Error::unavailable("account_not_ready", "in a moment"),
            Error::internal(std::io::Error::other("a fault")),
        ] {
            let reason = error.reason().to_owned();
            let failure = read_keyed::<()>(Err(error.into())).err().unwrap();
            assert_eq!(failure.error().reason(), reason);
        }
    }
}
