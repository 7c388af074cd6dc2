//! Redis: one connection that many requests share, and that comes back by itself.
//!
//! Redis holds nothing that could not be lost: counters and pokes. So nobody waits for it. While it is away a request
//! fails at once; one task per connection tries again, with growing pauses that differ from process to process.

mod config;
mod link;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisError, RedisResult};
use tokio::sync::watch;

pub use config::RedisConfig;
pub(crate) use link::{Connector, Link, Outage};

use crate::{Error, Tasks};

/// How often a connection is asked whether it lives; what hangs is noticed after this even when nobody asks anything.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A shared connection to Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisClient {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    link: watch::Sender<Option<Link>>,
    timeout: Duration,
    prefix: String,
}

impl RedisClient {
    /// Starts to connect and returns at once. Redis may be away: then the client connects when it comes. Needs a runtime.
    ///
    /// # Errors
    /// `invalid_argument` when the configuration has problems.
    pub fn start(config: &RedisConfig, tasks: &Tasks) -> Result<Self, Error> {
        let inner = Arc::new(Inner {
            connector: Connector::new(config)?,
            link: watch::Sender::new(None),
            timeout: Duration::from_millis(config.timeout_ms),
            prefix: config.prefix.clone(),
        });
        let (kept, token) = (Arc::clone(&inner), tasks.token());
        tasks.spawn_critical("redis-client", async move {
            // A request that runs while the process shuts down may still use the link, so it is not taken away.
            let _stopped = token.run_until_cancelled(kept.keep_connected()).await;
        });
        Ok(Self { inner })
    }

    /// Whether Redis answered when it was last asked.
    pub fn is_connected(&self) -> bool {
        self.inner.link().is_some()
    }

    /// Returns once Redis answers. A process that starts may wait for this a moment, so that its first requests do not
    /// find Redis away.
    pub async fn connected(&self) {
        let mut link = self.inner.link.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        let _connected = link.wait_for(Option::is_some).await.is_ok();
    }

    /// Longest wait for one answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// The name of something of this installation.
    pub(crate) fn key(&self, kind: &str) -> String {
        format!("{}:{kind}:", self.inner.prefix)
    }

    /// Makes connections of their own, for who cannot share.
    pub(crate) fn connector(&self) -> Connector {
        self.inner.connector.clone()
    }

    /// Asks one question. Fails at once while Redis is away; who finds out that it is spares the others the wait.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let link = self.inner.link().ok_or_else(link::away)?;
        link.query(command, self.inner.timeout).await
    }
}

impl Inner {
    /// The connection, unless it is known to be lost.
    fn link(&self) -> Option<Link> {
        self.link.borrow().clone().filter(|link| !link.is_lost())
    }

    async fn keep_connected(&self) {
        let mut outage = Outage::new("requests");
        loop {
            let link = self.connector.establish(&mut outage, |_| {}).await;
            outage.is_over();
            self.link.send_replace(Some(link.clone()));
            let error = link.watch(HEARTBEAT, self.timeout).await;
            self.link.send_replace(None);
            outage.begins(&error);
        }
    }
}

/// What callers get to know of a failure: nothing that Redis was asked.
pub(crate) fn unavailable(error: &RedisError) -> Error {
    let message = match error.code() {
        Some(code) => format!("Redis refused the request: {code}"),
        None => "Redis does not answer".to_owned(),
    };
    Error::unavailable("redis_unavailable", message).with_retry_after(Duration::from_secs(1))
}
