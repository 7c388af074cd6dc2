//! Follows auth-service: its keys, and the sessions that it revokes.

use std::time::Duration;

use jiff::Timestamp;
use proto::identity::v1::identity_client::IdentityClient;
use proto::identity::v1::{GetJwksRequest, RevokedSession, WatchRevocationsRequest};
use tonic::Status;
use uuid::Uuid;

use crate::Tasks;
use crate::grpc::client::{self, GrpcChannel, Upstream};
pub use crate::principal::Authenticator;

/// Keys are asked for at least this often, so that a withdrawn one goes.
const KEYS_EVERY: Duration = Duration::from_secs(300);
/// Tokens with unknown keys make us ask at most this often.
const KEYS_PAUSE: Duration = Duration::from_secs(2);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Well below the second after which payments would be refused: the next try may meet a replica that serves.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Heartbeats come four times a second; after this silence the stream is given up, and so is one that does not open:
/// another replica may speak before payments have to be refused.
const SILENCE: Duration = Duration::from_millis(900);
/// Longest wait for the stream to open.
const OPENING: Duration = Duration::from_secs(1);
/// How often entries that count no more are forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);

/// Keeps `authenticator` informed in the background, for as long as the tasks run. `service` is the name under which
/// this process calls auth-service.
///
/// auth-service itself does not call this: it knows at first hand.
pub fn follow(
    service: &'static str,
    authenticator: &Authenticator,
    identity: Upstream,
    tasks: &Tasks,
) {
    let follower = Follower {
        service,
        authenticator: authenticator.clone(),
        channel: client::balanced(&identity, tasks),
    };
    let token = tasks.token();
    let keys = follower.clone();
    tasks.spawn_critical(format!("{service}-identity-keys"), async move {
        token.run_until_cancelled_owned(keys.follow_keys()).await;
    });
    let token = tasks.token();
    tasks.spawn_critical(format!("{service}-identity-revocations"), async move {
        token
            .run_until_cancelled_owned(follower.follow_revocations())
            .await;
    });
}

#[derive(Clone)]
struct Follower {
    service: &'static str,
    authenticator: Authenticator,
    channel: GrpcChannel,
}

impl Follower {
    async fn follow_keys(self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.fetch_keys().await {
                Ok(()) => {
                    pause = SHORTEST_PAUSE;
                    // First the pause, so that a flood of unknown keys costs one question each time.
                    tokio::time::sleep(KEYS_PAUSE).await;
                    let asked = self.authenticator.keys.unknown_key_seen();
                    let _ = tokio::time::timeout(KEYS_EVERY, asked).await;
                }
                Err(error) => {
                    tracing::debug!(error = %format!("{error:#}"), "cannot get the keys of tokens");
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn fetch_keys(&self) -> anyhow::Result<()> {
        let request = self.request(GetJwksRequest {});
        let reply = IdentityClient::new(self.channel.clone())
            .get_jwks(request)
            .await?;
        self.authenticator
            .keys
            .update_from_jwks(&reply.into_inner().jwks_json)
    }

    async fn follow_revocations(self) {
        let mut pause = SHORTEST_PAUSE;
        let mut connected = false;
        loop {
            let (heard, why) = self.watch().await;
            if heard {
                pause = SHORTEST_PAUSE;
            }
            // The first tries fail while everything starts; later ones are worth a line.
            if heard || connected {
                connected = heard;
                tracing::warn!(cause = %why, "lost sight of revoked sessions, connecting again");
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one stream to its end. Returns whether it delivered a whole snapshot, and why it ended.
    async fn watch(&self) -> (bool, String) {
        let mut heard = false;
        let ended = self.watch_until_error(&mut heard).await;
        (
            heard,
            ended
                .err()
                .map_or_else(|| "the stream ended".to_owned(), |s| s.to_string()),
        )
    }

    async fn watch_until_error(&self, complete: &mut bool) -> Result<(), Status> {
        let revocations = &self.authenticator.revocations;
        let request = self.request(WatchRevocationsRequest {});
        let mut client = IdentityClient::new(self.channel.clone());
        let opened = tokio::time::timeout(OPENING, client.watch_revocations(request)).await;
        let mut stream = opened
            .map_err(|_| Status::unavailable("the stream does not open"))??
            .into_inner();
        let mut expire_at = tokio::time::Instant::now() + EXPIRE_EVERY;
        loop {
            let Ok(next) = tokio::time::timeout(SILENCE, stream.message()).await else {
                return Err(Status::unavailable("no heartbeat"));
            };
            let Some(message) = next? else { return Ok(()) };
            let revoked = message
                .revoked
                .iter()
                .map(read_revoked)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|()| Status::data_loss("a revoked session cannot be read"))?;
            revocations.apply(revoked);
            *complete |= message.snapshot_complete;
            // What came before the end of the snapshot is not the whole truth, and news alone does not prove that
            // auth-service still sees the news of its other replicas.
            if *complete && (message.snapshot_complete || message.revoked.is_empty()) {
                revocations.heard();
            }
            if tokio::time::Instant::now() >= expire_at {
                revocations.expire(self.authenticator.clock().now());
                expire_at = tokio::time::Instant::now() + EXPIRE_EVERY;
            }
        }
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let now = self.authenticator.clock().now();
        client::as_service(
            message,
            self.authenticator.service_tokens(),
            self.service,
            now,
        )
    }
}

fn read_revoked(revoked: &RevokedSession) -> Result<(Uuid, Timestamp), ()> {
    let session = Uuid::try_parse(&revoked.session_id).map_err(|_| ())?;
    let until = revoked.until.as_ref().ok_or(())?;
    let until = Timestamp::new(until.seconds, until.nanos).map_err(|_| ())?;
    Ok((session, until))
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests;
