//! Exchanges, queues and bindings.
//!
//! ```text
//! events (topic) ── type ──> CONSUMER ── killed its process too often ──> CONSUMER.dead
//!                               ^ │
//!          after PAUSE, by name │ v not now
//!                    retry.PAUSE (fanout exchange and queue)
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use proto::subscriptions::{Retired, Subscription};

use super::RabbitMqConfig;
use super::connection::{bounded, is_mismatch, name};

/// The consumer of dead letters gives up never. Told, because RabbitMQ 4 has a limit of its own.
const NO_LIMIT: i32 = 1_000_000_000;

/// What has to be there before anything is published.
pub(super) struct Topology {
    config: RabbitMqConfig,
    subscriptions: RwLock<Vec<Subscription>>,
    retired: &'static [Retired],
    /// Counts the reasons to declare anew.
    wanted: AtomicU64,
    /// The last of them that was met.
    declared: AtomicU64,
    /// One declares at a time: the broker calls a queue declared that another is about to start, and then refuses
    /// messages for it.
    declaring: tokio::sync::Mutex<()>,
}

impl Topology {
    pub(super) fn new(
        config: RabbitMqConfig,
        subscriptions: &[Subscription],
        retired: &'static [Retired],
    ) -> Self {
        Self {
            config,
            subscriptions: RwLock::new(subscriptions.to_vec()),
            retired,
            wanted: AtomicU64::new(1),
            declared: AtomicU64::new(0),
            declaring: tokio::sync::Mutex::default(),
        }
    }

    /// The exchange of all facts.
    pub(super) fn events(&self) -> String {
        format!("{}.events", self.config.prefix)
    }

    /// The queue of a consumer.
    pub(super) fn queue(&self, consumer: &str) -> String {
        format!("{}.{consumer}", self.config.prefix)
    }

    /// The queue of what the broker gave up to bring to a consumer.
    pub(super) fn dead_queue(&self, consumer: &str) -> String {
        format!("{}.{consumer}.dead", self.config.prefix)
    }

    /// The exchange, and the queue, in which messages wait after so many deliveries.
    pub(super) fn retry(&self, deliveries: u32) -> String {
        let pauses = &self.config.retry_pauses_ms;
        let place = usize::try_from(deliveries.saturating_sub(1)).unwrap_or(usize::MAX);
        let pause = pauses.get(place).or(pauses.last()).copied().unwrap_or(1000);
        self.retry_of(pause)
    }

    /// The exchange, and the queue, in which messages wait longest.
    pub(super) fn longest_retry(&self) -> String {
        let longest = self.config.retry_pauses_ms.iter().max();
        self.retry_of(longest.copied().unwrap_or(1000))
    }

    fn retry_of(&self, pause_ms: u64) -> String {
        format!("{}.retry.{pause_ms}ms", self.config.prefix)
    }

    /// Whether somebody takes events of this type.
    pub(super) fn is_taken(&self, r#type: &str) -> bool {
        self.read()
            .iter()
            .any(|subscription| subscription.types.contains(&r#type))
    }

    /// Whether the consumer once took events of this type, and does not any more.
    pub(super) fn is_retired(&self, consumer: &str, r#type: &str) -> bool {
        self.retired
            .iter()
            .any(|retired| (retired.consumer, retired.r#type) == (consumer, r#type))
    }

    /// Adds a subscription, unless it is there.
    pub(super) fn add(&self, subscription: Subscription) {
        let mut all = self
            .subscriptions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&subscription) {
            all.push(subscription);
            self.mistrust();
        }
    }

    /// Something seems to be missing at the broker: declares everything again before the next message is published.
    pub(super) fn mistrust(&self) {
        self.wanted.fetch_add(1, Ordering::SeqCst);
    }

    /// Declares everything, where there is reason to.
    pub(super) async fn ensure(&self, connection: &Connection) -> anyhow::Result<()> {
        if self.declared.load(Ordering::SeqCst) >= self.wanted.load(Ordering::SeqCst) {
            return Ok(());
        }
        let _alone = self.declaring.lock().await;
        if self.declared.load(Ordering::SeqCst) >= self.wanted.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.declare_all(connection).await
    }

    /// Declares everything. May run any number of times and in any number of processes at once.
    pub(super) async fn declare(&self, connection: &Connection) -> anyhow::Result<()> {
        let _alone = self.declaring.lock().await;
        self.declare_all(connection).await
    }

    async fn declare_all(&self, connection: &Connection) -> anyhow::Result<()> {
        let wanted = self.wanted.load(Ordering::SeqCst);
        let mut declarer = Declarer::open(connection, &self.config).await?;
        declarer
            .exchange(&self.events(), ExchangeKind::Topic)
            .await?;
        for pause in &self.config.retry_pauses_ms {
            let retry = self.retry_of(*pause);
            declarer.exchange(&retry, ExchangeKind::Fanout).await?;
            declarer.queue(&retry, self.retry_arguments(*pause)).await?;
            declarer.bind(&retry, &retry, "").await?;
        }
        for subscription in self.read() {
            self.declare_queues(&mut declarer, &subscription).await?;
        }
        self.declared.fetch_max(wanted, Ordering::SeqCst);
        Ok(())
    }

    /// Declares what one consumer takes from.
    pub(super) async fn declare_one(
        &self,
        connection: &Connection,
        subscription: &Subscription,
    ) -> anyhow::Result<()> {
        let _alone = self.declaring.lock().await;
        let mut declarer = Declarer::open(connection, &self.config).await?;
        declarer
            .exchange(&self.events(), ExchangeKind::Topic)
            .await?;
        self.declare_queues(&mut declarer, subscription).await
    }

    async fn declare_queues(
        &self,
        declarer: &mut Declarer<'_>,
        subscription: &Subscription,
    ) -> anyhow::Result<()> {
        let queue = self.queue(subscription.consumer);
        let dead = self.dead_queue(subscription.consumer);
        declarer
            .queue(&dead, quorum().with("x-delivery-limit", NO_LIMIT))
            .await?;
        let limit = i32::try_from(self.config.delivery_limit).unwrap_or(NO_LIMIT);
        let arguments = quorum()
            .with("x-delivery-limit", limit)
            .dead_lettered_to(Some(&dead));
        declarer.queue(&queue, arguments).await?;
        for r#type in subscription.types {
            declarer.bind(&queue, &self.events(), r#type).await?;
        }
        for retired in self.retired {
            if retired.consumer == subscription.consumer {
                declarer
                    .unbind(&queue, &self.events(), retired.r#type)
                    .await?;
            }
        }
        Ok(())
    }

    /// Messages keep their routing key, which is the name of the queue that they come from and go back to.
    fn retry_arguments(&self, pause_ms: u64) -> Arguments {
        quorum()
            .with("x-message-ttl", i32::try_from(pause_ms).unwrap_or(i32::MAX))
            .dead_lettered_to(None)
    }

    fn read(&self) -> Vec<Subscription> {
        self.subscriptions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Names of all queues, and of all exchanges.
    #[cfg(feature = "test-kit")]
    pub(super) fn names(&self) -> (Vec<String>, Vec<String>) {
        let retries = self.config.retry_pauses_ms.iter();
        let retries: Vec<_> = retries.map(|pause| self.retry_of(*pause)).collect();
        let consumers = self.read();
        let own = consumers.iter().flat_map(|subscription| {
            [
                self.queue(subscription.consumer),
                self.dead_queue(subscription.consumer),
            ]
        });
        let queues = own.chain(retries.iter().cloned()).collect();
        let exchanges = retries.iter().cloned().chain([self.events()]).collect();
        (queues, exchanges)
    }
}

/// Arguments of a queue.
struct Arguments(FieldTable);

fn quorum() -> Arguments {
    Arguments(FieldTable::default()).with_text("x-queue-type", "quorum")
}

impl Arguments {
    fn with(mut self, key: &'static str, value: i32) -> Self {
        self.0.insert(key.into(), AMQPValue::LongInt(value));
        self
    }

    fn with_text(mut self, key: &'static str, value: &str) -> Self {
        let value = AMQPValue::LongString(LongString::from(value));
        self.0.insert(key.into(), value);
        self
    }

    /// Moves messages on by the default exchange, and forgets them here once they have arrived.
    fn dead_lettered_to(self, queue: Option<&str>) -> Self {
        let moving = self
            .with_text("x-dead-letter-exchange", "")
            .with_text("x-dead-letter-strategy", "at-least-once")
            .with_text("x-overflow", "reject-publish");
        match queue {
            Some(queue) => moving.with_text("x-dead-letter-routing-key", queue),
            None => moving,
        }
    }
}

struct Declarer<'a> {
    connection: &'a Connection,
    channel: Channel,
    timeout: Duration,
    expire_after: Option<Duration>,
}

impl<'a> Declarer<'a> {
    async fn open(connection: &'a Connection, config: &RabbitMqConfig) -> anyhow::Result<Self> {
        let timeout = config.connect_timeout();
        Ok(Self {
            connection,
            channel: bounded(timeout, connection.create_channel()).await??,
            timeout,
            expire_after: config.expire_after,
        })
    }

    async fn exchange(&self, exchange: &str, kind: ExchangeKind) -> anyhow::Result<()> {
        let options = ExchangeDeclareOptions {
            durable: true,
            auto_delete: self.expire_after.is_some(),
            ..ExchangeDeclareOptions::default()
        };
        let declared =
            self.channel
                .exchange_declare(name(exchange)?, kind, options, FieldTable::default());
        Ok(bounded(self.timeout, declared).await??)
    }

    async fn queue(&mut self, queue: &str, arguments: Arguments) -> anyhow::Result<()> {
        let mut arguments = arguments.0;
        if let Some(expire_after) = self.expire_after {
            let expires = i32::try_from(expire_after.as_millis()).unwrap_or(i32::MAX);
            arguments.insert("x-expires".into(), AMQPValue::LongInt(expires));
        }
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        match self.declare(name(queue)?, durable, arguments).await? {
            Err(error) if is_mismatch(&error) => {}
            declared => return Ok(declared?),
        }
        // It was made with other settings. Those cannot be changed, and facts must go on; the channel is closed.
        tracing::warn!(
            queue,
            "the queue has other settings than configured and keeps them until it is removed"
        );
        self.channel = bounded(self.timeout, self.connection.create_channel()).await??;
        let there = QueueDeclareOptions {
            passive: true,
            ..durable
        };
        Ok(self
            .declare(name(queue)?, there, FieldTable::default())
            .await??)
    }

    async fn declare(
        &self,
        queue: ShortString,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> anyhow::Result<lapin::Result<()>> {
        let declared = self.channel.queue_declare(queue, options, arguments);
        Ok(bounded(self.timeout, declared).await?.map(|_| ()))
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
        let bound = self.channel.queue_bind(
            name(queue)?,
            name(exchange)?,
            name(key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        Ok(bounded(self.timeout, bound).await??)
    }

    /// Also where it is not bound.
    async fn unbind(&self, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
        let unbound = self.channel.queue_unbind(
            name(queue)?,
            name(exchange)?,
            name(key)?,
            FieldTable::default(),
        );
        Ok(bounded(self.timeout, unbound).await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_deliveries_and_the_last_one_holds() {
        let topology = Topology::new(RabbitMqConfig::default(), &[], &[]);
        let queues = [1, 2, 3, 4, 5, u32::MAX].map(|deliveries| topology.retry(deliveries));
        assert_eq!(
            queues,
            [
                "coffer.retry.100ms",
                "coffer.retry.1000ms",
                "coffer.retry.5000ms",
                "coffer.retry.30000ms",
                "coffer.retry.30000ms",
                "coffer.retry.30000ms",
            ]
        );
    }

    #[test]
    fn a_subscription_is_declared_once() {
        let topology = Topology::new(RabbitMqConfig::default(), &[], &[]);
        let subscription = Subscription {
            consumer: "a",
            types: &["x.v1.Y"],
        };
        assert!(!topology.is_taken("x.v1.Y"));
        topology.add(subscription);
        let wanted = topology.wanted.load(Ordering::SeqCst);
        topology.add(subscription);
        assert_eq!(topology.wanted.load(Ordering::SeqCst), wanted);
        assert!(topology.is_taken("x.v1.Y") && !topology.is_taken("x.v1.Z"));
    }
}
