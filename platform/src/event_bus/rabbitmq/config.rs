//! Settings of the connection to RabbitMQ.

use std::time::Duration;

use lapin::uri::AMQPUri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Problem, Validate};

/// How facts travel over RabbitMQ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RabbitMqConfig {
    /// `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS with the machine's root certificates. The virtual
    /// host `/` is written `%2f`.
    pub url: String,
    /// First part of the names of all exchanges and queues, e.g. `coffer.events`. The same in all services.
    pub prefix: String,
    /// Events that the broker hands to one consumer of one process before it waits for acknowledgements.
    pub prefetch: u16,
    /// How long publishing may take, in milliseconds, before an event counts as not confirmed and is sent again.
    pub publish_timeout_ms: u64,
    /// How long each step of connecting may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Seconds between signs of life. A connection without any for twice as long is given up.
    pub heartbeat_s: u16,
    /// Deliveries of one event before it becomes a dead letter.
    pub max_deliveries: u32,
    /// Pauses, in milliseconds, after the first, second, … delivery that failed; the last one holds for all that follow.
    /// Each has a queue of its own. The same in all services.
    pub retry_pauses_ms: Vec<u64>,
    /// How often the broker hands over an event whose consumer died with it, before it becomes a dead letter. Holds for
    /// queues that are made from then on.
    pub delivery_limit: u32,
    /// Removes exchanges and queues that nobody uses, after this time. For tests.
    #[serde(skip)]
    pub expire_after: Option<Duration>,
}

impl Default for RabbitMqConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            prefix: "coffer".to_owned(),
            prefetch: 512,
            publish_timeout_ms: 10_000,
            connect_timeout_ms: 5_000,
            heartbeat_s: 10,
            max_deliveries: 12,
            retry_pauses_ms: vec![100, 1_000, 5_000, 30_000],
            delivery_limit: 30,
            expire_after: None,
        }
    }
}

impl RabbitMqConfig {
    /// The address, with the heartbeat of these settings; `None` when it is malformed.
    pub(super) fn uri(&self) -> Option<AMQPUri> {
        let known = ["amqp://", "amqps://"];
        if !known.iter().any(|scheme| self.url.starts_with(scheme)) {
            return None;
        }
        let mut uri: AMQPUri = self.url.parse().ok()?;
        uri.query.heartbeat = Some(self.heartbeat_s);
        Some(uri)
    }

    pub(super) fn publish_timeout(&self) -> Duration {
        Duration::from_millis(self.publish_timeout_ms)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

impl Validate for RabbitMqConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem::new(key, message));
            }
        };
        check(
            self.uri().is_some(),
            "url",
            "must be a URL that begins with amqp:// or amqps://",
        );
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        check(
            (1..=60).contains(&self.prefix.len()) && self.prefix.chars().all(plain),
            "prefix",
            "must be 1 to 60 letters, digits, dots, hyphens or underscores",
        );
        check(self.prefetch > 0, "prefetch", "must be between 1 and 65535");
        // Shorter than a relay holds a row, else two replicas would send it.
        check(
            (100..=12_000).contains(&self.publish_timeout_ms),
            "publish_timeout_ms",
            "must be between 100 and 12000",
        );
        check(
            (100..=60_000).contains(&self.connect_timeout_ms),
            "connect_timeout_ms",
            "must be between 100 and 60000",
        );
        check(
            (1..=300).contains(&self.heartbeat_s),
            "heartbeat_s",
            "must be between 1 and 300",
        );
        check(
            (1..=1000).contains(&self.max_deliveries),
            "max_deliveries",
            "must be between 1 and 1000",
        );
        check(
            (1..=10).contains(&self.retry_pauses_ms.len())
                && self
                    .retry_pauses_ms
                    .iter()
                    .all(|pause| (1..=3_600_000).contains(pause)),
            "retry_pauses_ms",
            "must be 1 to 10 pauses between 1 and 3600000 (one hour)",
        );
        check(
            (5..=10_000).contains(&self.delivery_limit),
            "delivery_limit",
            "must be between 5 and 10000",
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lack_only_the_address() {
        let keys = |config: &RabbitMqConfig| -> Vec<String> {
            config
                .validate()
                .into_iter()
                .map(|problem| problem.key)
                .collect()
        };
        let mut config = RabbitMqConfig::default();
        assert_eq!(keys(&config), ["url"]);
        for (url, sound) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", true),
            ("amqps://broker", true),
            ("http://broker", false),
            ("amqp://host:port", false),
        ] {
            config.url = url.to_owned();
            assert_eq!(keys(&config).is_empty(), sound, "{url}");
        }
    }

    #[test]
    fn every_problem_is_told() {
        let config = RabbitMqConfig {
            url: "amqp://host".to_owned(),
            prefix: "a b".to_owned(),
            prefetch: 0,
            publish_timeout_ms: 15_000,
            connect_timeout_ms: 0,
            heartbeat_s: 0,
            max_deliveries: 0,
            retry_pauses_ms: vec![0],
            delivery_limit: 1,
            expire_after: None,
        };
        assert_eq!(config.validate().len(), 8);
    }

    #[test]
    fn a_publish_ends_before_its_rows_are_anybodys() {
        let mut config = RabbitMqConfig {
            url: "amqp://host".to_owned(),
            ..RabbitMqConfig::default()
        };
        config.publish_timeout_ms = 12_000;
        assert!(config.validate().is_empty());
        assert!(config.publish_timeout() < crate::outbox::LEASE);
    }
}
