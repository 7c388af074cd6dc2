//! One connection to Redis, from the attempt to the loss.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, PushInfo, PushKind,
    RedisError, RedisResult, RetryMethod, ServerErrorKind, Value,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::RedisConfig;
use crate::Error;

/// Longest that one attempt to connect may take, names and TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Pause after the first attempt that failed; doubled after each further one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lasted less than this counts as an attempt that failed.
const STEADY: Duration = Duration::from_secs(1);

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    client: Client,
}

impl Connector {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, Error> {
        if let Some(problem) = config.problems("redis").first() {
            return Err(Error::invalid_field(&*problem.key, &*problem.message));
        }
        let client = config
            .connection_info()
            .and_then(|info| Client::open(info).ok());
        let client =
            client.ok_or_else(|| Error::invalid_field("redis.url", "is not a URL of Redis"))?;
        Ok(Self { client })
    }

    /// Tries until Redis answers. Returns a connection that calls `on_push` with what Redis tells unasked; it must not
    /// block.
    pub(crate) async fn establish<F>(&self, outage: &mut Outage, on_push: F) -> Link
    where
        F: Fn(PushInfo) + Clone + Send + Sync + 'static,
    {
        loop {
            sleep(outage.pause()).await;
            match self.connect(on_push.clone()).await {
                Ok(link) => {
                    outage.connected = Some(Instant::now());
                    return link;
                }
                Err(error) => outage.begins(&error),
            }
        }
    }

    async fn connect<F>(&self, on_push: F) -> RedisResult<Link>
    where
        F: Fn(PushInfo) + Send + Sync + 'static,
    {
        let lost = CancellationToken::new();
        let told = lost.clone();
        let sender = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                told.cancel();
            } else {
                on_push(push);
            }
            Ok::<(), ()>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            // Each question brings its own.
            .set_response_timeout(None)
            .set_push_sender(sender);
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let link = Link {
            connection,
            lost,
            reason: Arc::default(),
        };
        // A server that still loads its data lets clients in.
        link.ping(CONNECT_WITHIN).await?;
        Ok(link)
    }
}

/// One connection, until it is lost. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    lost: CancellationToken,
    /// Why it is lost, when we found out by ourselves.
    reason: Arc<OnceLock<RedisError>>,
}

impl Link {
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Gives the connection up.
    pub(crate) fn lose(&self, reason: &RedisError) {
        self.reason.get_or_init(|| reason.clone());
        self.lost.cancel();
    }

    /// Returns once the connection is lost, and tells why.
    pub(crate) async fn lost(&self) -> RedisError {
        self.lost.cancelled().await;
        self.reason.get().cloned().unwrap_or_else(away)
    }

    /// Asks one question. No answer `within` this time means that the connection is lost.
    pub(crate) async fn query<T: FromRedisValue>(
        &self,
        command: &Cmd,
        within: Duration,
    ) -> RedisResult<T> {
        let mut connection = self.connection.clone();
        self.judge(command.query_async(&mut connection), within)
            .await
    }

    /// Asks several questions at once, with one answer each, which may be a refusal.
    pub(crate) async fn query_all(
        &self,
        commands: &Pipeline,
        within: Duration,
    ) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection.clone();
        let answers = connection.req_packed_commands(commands, 0, commands.len());
        self.judge(answers, within).await
    }

    pub(crate) async fn ping(&self, within: Duration) -> RedisResult<()> {
        self.query(&redis::cmd("PING"), within).await
    }

    /// Asks now and then whether the connection lives. Returns why it is lost.
    pub(super) async fn watch(&self, every: Duration, within: Duration) -> RedisError {
        loop {
            tokio::select! {
                reason = self.lost() => return reason,
                () = sleep(every) => {}
            }
            if let Err(error) = self.ping(within).await {
                self.lose(&error);
            }
        }
    }

    async fn judge<T>(
        &self,
        answer: impl Future<Output = RedisResult<T>>,
        within: Duration,
    ) -> RedisResult<T> {
        let answer = timeout(within, answer)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        if let Err(error) = &answer
            && is_final(error)
        {
            self.lose(error);
        }
        answer
    }
}

/// Whether a connection that gave this answer is of no more use. A server that became a replica, or loads its data, is
/// left, since its name may stand for another one by now.
fn is_final(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading
            )
        )
        || matches!(error.retry_method(), RetryMethod::Reconnect)
}

/// Redis is known to be away.
pub(super) fn away() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}

/// Whether Redis is away: when to try again, and what was told of it.
pub(crate) struct Outage {
    what: &'static str,
    /// Since when the last connection stood.
    connected: Option<Instant>,
    /// Attempts in a row that failed.
    attempts: u32,
    /// Whether the log says that Redis is away.
    is_told: bool,
}

impl Outage {
    /// `what` the connection is for, for the log.
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            connected: None,
            attempts: 0,
            is_told: false,
        }
    }

    /// Says once that Redis is away.
    pub(crate) fn begins(&mut self, error: &RedisError) {
        let lasted = self.connected.take().map(|since| since.elapsed());
        self.attempts = match lasted {
            Some(lasted) if lasted >= STEADY => 0,
            _ => self.attempts.saturating_add(1),
        };
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(connection = self.what, %error, "Redis is away");
        }
    }

    /// Says once that Redis is back.
    pub(crate) fn is_over(&mut self) {
        if std::mem::replace(&mut self.is_told, false) {
            tracing::info!(connection = self.what, "Redis is back");
        }
    }

    /// How long to wait before the next attempt. Half of it is chance, so that processes that lost Redis together do
    /// not come back together.
    fn pause(&self) -> Duration {
        let Some(doublings) = self.attempts.checked_sub(1) else {
            return Duration::ZERO;
        };
        let longest = SHORTEST_PAUSE
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(LONGEST_PAUSE);
        rand::random_range(longest / 2..=longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut outage = Outage::new("test");
        assert_eq!(outage.pause(), Duration::ZERO);
        for (attempt, longest) in [50, 100, 200, 400, 800, 1600, 2000, 2000]
            .into_iter()
            .enumerate()
        {
            outage.begins(&away());
            let longest = Duration::from_millis(longest);
            for _ in 0..50 {
                let pause = outage.pause();
                assert!(
                    pause >= longest / 2 && pause <= longest,
                    "{attempt}: {pause:?}"
                );
            }
        }
        let first = outage.pause();
        assert!((0..100).any(|_| outage.pause() != first));
        outage.attempts = u32::MAX;
        outage.begins(&away());
        assert!(outage.pause() <= LONGEST_PAUSE);
    }

    #[test]
    fn a_connection_that_lasted_is_replaced_at_once_and_one_that_did_not_is_not() {
        let mut outage = Outage::new("test");
        outage.begins(&away());
        outage.connected = Some(Instant::now());
        outage.begins(&away());
        assert!(outage.pause() > Duration::ZERO);
        outage.connected = Instant::now().checked_sub(STEADY);
        outage.begins(&away());
        assert_eq!(outage.pause(), Duration::ZERO);
    }
}
