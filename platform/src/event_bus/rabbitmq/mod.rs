//! The bus of the distributed profile: RabbitMQ 3.10 or later.
//!
//! Publishing and taking have a connection each, because a broker that runs short of memory or disk stops listening to
//! those who publish. Both are kept up for as long as the process runs; it starts and serves while the broker is away,
//! and its facts wait in the outbox.

mod config;
mod connection;
mod consumer;
mod held;
mod message;
mod publisher;
mod session;
#[cfg(feature = "test-kit")]
pub(crate) mod test_hooks;
mod topology;

use std::sync::Arc;

use async_trait::async_trait;
use proto::subscriptions::{RETIRED, Retired, Subscription};

pub use config::RabbitMqConfig;

use self::connection::{Dialler, Link, name};
use self::consumer::{DeadLetters, Feeder};
use self::publisher::{Outgoing, Publisher};
use self::session::Source;
use self::topology::Topology;
use super::{Envelope, EventBus, PublishError};
use crate::consumer::Consumer;
use crate::shutdown::Tasks;
use crate::{Error, config::Validate};

/// Dead letters that are taken at a time.
const DEAD_LETTERS: u16 = 16;

/// An event bus over RabbitMQ.
pub struct RabbitMqBus {
    config: RabbitMqConfig,
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    consuming: Link,
}

impl RabbitMqBus {
    /// Starts to connect, in the background, and goes on until `tasks` is cancelled. `name` is the process's name at the
    /// broker. `subscriptions` are those of all services, whose queues are declared before anything is published: a fact
    /// waits there also for a consumer that has never been started. Needs a tokio runtime.
    ///
    /// # Errors
    /// `invalid_argument` when the settings have problems. That the broker is away is no error.
    pub fn connect(
        config: &RabbitMqConfig,
        name: &str,
        subscriptions: &[Subscription],
        tasks: &Tasks,
    ) -> Result<Arc<Self>, Error> {
        Self::connect_retiring(config, name, subscriptions, RETIRED, tasks)
    }

    /// As [`RabbitMqBus::connect`], with other retired types than those of the product.
    pub(crate) fn connect_retiring(
        config: &RabbitMqConfig,
        name: &str,
        subscriptions: &[Subscription],
        retired: &'static [Retired],
        tasks: &Tasks,
    ) -> Result<Arc<Self>, Error> {
        let problems = config.validate();
        let (true, Some(uri)) = (problems.is_empty(), config.uri()) else {
            let violations = problems
                .into_iter()
                .map(|p| crate::FieldViolation::new(format!("rabbitmq.{}", p.key), p.message));
            return Err(Error::invalid(violations.collect()));
        };
        let topology = Arc::new(Topology::new(config.clone(), subscriptions, retired));
        let dialler = |role: &str| Dialler {
            uri: uri.clone(),
            name: format!("{name} {role}"),
            timeout: config.connect_timeout(),
        };
        let publishing = Link::start(dialler("publishing"), Some(Arc::clone(&topology)), tasks);
        let consuming = Link::start(dialler("consuming"), None, tasks);
        let publisher = Publisher::new(publishing, Arc::clone(&topology), config.publish_timeout());
        Ok(Arc::new(Self {
            config: config.clone(),
            topology,
            publisher: Arc::new(publisher),
            consuming,
        }))
    }

    /// Whether the broker is there, both for publishing and for taking.
    pub fn is_connected(&self) -> bool {
        self.publisher.link.current().is_some() && self.consuming.current().is_some()
    }

    fn outgoing(&self, event: Envelope) -> anyhow::Result<Outgoing> {
        Ok(Outgoing {
            exchange: name(&self.topology.events())?,
            routing_key: name(&event.r#type)?,
            mandatory: self.topology.is_taken(&event.r#type),
            properties: message::properties(&event, 0)?,
            body: event.data,
        })
    }

    fn source(&self, consumer: &Arc<Consumer>, queue: String, prefetch: u16) -> Source {
        Source {
            link: self.consuming.clone(),
            topology: Arc::clone(&self.topology),
            consumer: Arc::clone(consumer),
            queue,
            prefetch,
            timeout: self.config.connect_timeout(),
        }
    }
}

#[async_trait]
impl EventBus for RabbitMqBus {
    async fn publish(&self, events: Vec<Envelope>) -> Vec<Result<(), PublishError>> {
        let (mut messages, mut outcomes) = (Vec::new(), Vec::new());
        for event in events {
            outcomes.push(match self.outgoing(event) {
                Ok(message) => {
                    messages.push(message);
                    Ok(())
                }
                Err(error) => Err(PublishError(error.to_string())),
            });
        }
        let mut sent = self.publisher.send(&messages).await.into_iter();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = sent
                .next()
                .unwrap_or_else(|| Err(PublishError("it was not sent".to_owned())));
        }
        outcomes
    }

    fn is_available(&self) -> bool {
        self.publisher.is_open()
    }

    async fn subscribe(&self, consumer: Arc<Consumer>, tasks: &Tasks) -> Result<(), Error> {
        let name = consumer.name();
        self.topology.add(Subscription {
            consumer: name,
            types: consumer.types(),
        });
        let queue = self.topology.queue(name);
        let feeder = Feeder {
            source: self.source(&consumer, queue, self.config.prefetch),
            publisher: Arc::clone(&self.publisher),
            topology: Arc::clone(&self.topology),
            max_deliveries: self.config.max_deliveries,
        };
        let dead = self.topology.dead_queue(name);
        let letters = DeadLetters {
            source: self.source(&consumer, dead, DEAD_LETTERS),
        };
        let token = tasks.token();
        tasks.spawn_critical(format!("{name}-consumer"), feeder.run(token.clone()));
        tasks.spawn_critical(format!("{name}-dead-letters"), letters.run(token));
        Ok(())
    }
}
