//! Fan-out through Redis, to every process that uses the same server and prefix.
//!
//! Sharded pub/sub, over one connection of its own for all topics of the process. It is apart from that of requests, since
//! a server may end subscriptions unasked, which on a shared connection would look like the answer to somebody's request.
//!
//! Listeners say what is wanted ([`Wanted`]); one task ([`Session`]) makes the server's subscriptions equal to it, in
//! batches, one after the other. So a listener that comes while the last one's departure is under way is a change that the
//! next batch makes, and nothing has to be undone.

mod session;
mod wanted;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::PushInfo;

use super::{Fanout, FanoutReceiver};
use crate::redis_client::{Outage, RedisClient, unavailable};
use crate::{Error, Tasks};
use session::Session;
use wanted::{TopicGuard, Wanted};

/// Fan-out through Redis.
///
/// While Redis is away listeners can still be made; they come alive with it. Whoever may have missed pokes, be it for a
/// lost connection or because Redis was away at the start, gets [`super::Lagged`] as soon as pokes arrive again.
pub struct RedisFanout {
    client: RedisClient,
    channels: String,
    wanted: Arc<Wanted>,
    /// Longest that a new listener waits for Redis to know of it.
    patience: Duration,
}

impl RedisFanout {
    /// Starts to connect and returns at once. Needs a runtime.
    pub fn start(client: RedisClient, tasks: &Tasks) -> Self {
        let fanout = Self {
            channels: client.key("fanout"),
            wanted: Arc::default(),
            patience: client.timeout(),
            client,
        };
        let (token, work) = (tasks.token(), fanout.keep_subscribed());
        tasks.spawn_critical("redis-fanout", async move {
            let _stopped = token.run_until_cancelled(work).await;
        });
        fanout
    }

    /// Whether pokes arrive.
    pub fn is_connected(&self) -> bool {
        self.wanted.is_connected()
    }

    fn keep_subscribed(&self) -> impl Future<Output = ()> + Send + use<> {
        let (connector, channels) = (self.client.connector(), self.channels.clone());
        let wanted = Arc::clone(&self.wanted);
        let prefix = self.channels.clone();
        let heard = Arc::clone(&self.wanted);
        let on_push = move |push: PushInfo| session::deliver(&heard, &prefix, push);
        async move {
            let mut outage = Outage::new("fan-out");
            loop {
                let link = connector.establish(&mut outage, on_push.clone()).await;
                let mut session = Session::new(&link, &channels, &wanted);
                let error = session.run(&mut outage).await;
                wanted.disconnect();
                outage.begins(&error);
            }
        }
    }
}

#[async_trait]
impl Fanout for RedisFanout {
    async fn publish(&self, topic: &str, payload: Bytes) -> Result<(), Error> {
        let mut command = redis::cmd("SPUBLISH");
        command
            .arg(format!("{}{topic}", self.channels))
            .arg(payload.as_ref());
        let sent: redis::RedisResult<i64> = self.client.query(&command).await;
        sent.map(|_receivers| ())
            .map_err(|error| unavailable(&error))
    }

    async fn subscribe(&self, topic: &str) -> Result<FanoutReceiver, Error> {
        let (receiver, mut live) = self.wanted.listen(topic);
        // Made before the wait, so that whoever gives up waiting leaves nothing behind.
        let receiver = FanoutReceiver {
            receiver,
            _guard: Box::new(TopicGuard::new(topic, &self.wanted)),
        };
        if self.wanted.is_connected() {
            let wait = live.wait_for(|live| *live);
            // Too late is told below.
            let _in_time = tokio::time::timeout(self.patience, wait).await.is_ok();
        }
        self.wanted.note_gap_unless_live(topic);
        Ok(receiver)
    }
}
