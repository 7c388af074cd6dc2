//! A look at the Redis server of the tests from the side.

use jiff::Timestamp;
use platform::test_kit::redis_config;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, cmd};

/// A connection that knows nothing of the product.
#[derive(Clone)]
pub(crate) struct Server {
    connection: MultiplexedConnection,
}

impl Server {
    /// `None` where the environment names no server.
    pub(crate) async fn connect() -> Option<Self> {
        let client = redis::Client::open(redis_config()?.url).unwrap();
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap();
        Some(Self { connection })
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let mut connection = self.connection.clone();
        command.query_async(&mut connection).await.unwrap()
    }

    pub(crate) async fn now(&self) -> Timestamp {
        let (seconds, micros): (i64, i64) = self.ask(&cmd("TIME")).await;
        Timestamp::from_microsecond(seconds * 1_000_000 + micros).unwrap()
    }

    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        self.ask(cmd("KEYS").arg(format!("{prefix}:*"))).await
    }

    pub(crate) async fn is_empty(&self, prefix: &str) -> bool {
        self.keys(prefix).await.is_empty()
    }

    pub(crate) async fn life_ms(&self, key: &str) -> i64 {
        self.ask(cmd("PTTL").arg(key)).await
    }

    pub(crate) async fn set(&self, key: &str, value: &str) {
        self.ask(cmd("SET").arg(key).arg(value)).await
    }

    pub(crate) async fn set_list(&self, key: &str) {
        let _was: i64 = self.ask(cmd("DEL").arg(key)).await;
        let _length: i64 = self.ask(cmd("RPUSH").arg(key).arg("1")).await;
    }

    pub(crate) async fn forget_scripts(&self) {
        self.ask(cmd("SCRIPT").arg("FLUSH")).await
    }

    /// Processes that listen to a channel.
    pub(crate) async fn listeners(&self, channel: &str) -> i64 {
        let counts: Vec<(String, i64)> = self
            .ask(cmd("PUBSUB").arg("SHARDNUMSUB").arg(channel))
            .await;
        counts[0].1
    }

    /// Channels of a prefix to which somebody listens.
    pub(crate) async fn channels(&self, prefix: &str) -> usize {
        let pattern = format!("{prefix}:*");
        let channels: Vec<String> = self
            .ask(cmd("PUBSUB").arg("SHARDCHANNELS").arg(pattern))
            .await;
        channels.len()
    }
}
