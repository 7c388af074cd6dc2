//! Settings of the scheduler.

use std::path::PathBuf;
use std::time::Duration;

use platform::config::{Problem, Validate};
use platform::database::DatabaseConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Numbering;

/// Everything that can be set of the scheduler.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerConfig {
    /// Where schedules and messages are kept.
    pub database: DatabaseConfig,
    /// Region of numbers without a country code, ISO 3166-1, e.g. `IN`.
    pub default_region: String,
    /// Provider of schedules that name none.
    pub default_provider: String,
    /// Most recipients that a user may put into schedules a UTC day. 0: no limit.
    pub daily_recipients: u64,
    /// The same for support, compliance and administrators. 0: no limit.
    pub daily_recipients_staff: u64,
    /// Most rows of one CSV upload, whether good or bad.
    pub max_upload_rows: u64,
    /// Longest silence within an upload, in seconds, before it is given up.
    pub upload_idle_s: u64,
    /// How messages are handed to providers and followed.
    pub sending: SendingConfig,
    /// The provider `simulator`.
    pub simulator: SimulatorConfig,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            database: DatabaseConfig::default(),
            default_region: "IN".to_owned(),
            default_provider: "simulator".to_owned(),
            daily_recipients: 10_000,
            daily_recipients_staff: 0,
            max_upload_rows: 5_000_000,
            upload_idle_s: 60,
            sending: SendingConfig::default(),
            simulator: SimulatorConfig::default(),
        }
    }
}

/// How messages are handed to providers and followed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SendingConfig {
    /// Most messages claimed in one transaction.
    pub batch_size: u32,
    /// Batches under way to providers at a time.
    pub concurrency: u32,
    /// Longest wait for a provider's answer, in milliseconds.
    pub call_timeout_ms: u64,
    /// How long a claimed message is left to its sender, in milliseconds. Every call to the provider ends within it. At
    /// least twice `call_timeout_ms`.
    pub lease_ms: u64,
    /// How long after the end of a lease the provider is asked, in milliseconds, what became of the message. More than the
    /// clocks of two replicas may differ by.
    pub grace_ms: u64,
    /// How long a message may take to its final state, in seconds, before it is called `UNKNOWN`.
    pub deadline_s: u64,
    /// First pause before the provider is asked for a message's state, in milliseconds. Each further one is half as long again.
    pub first_poll_ms: u64,
    /// Longest pause between two questions for a message's state, in milliseconds.
    pub longest_poll_ms: u64,
    /// Questions are put off to multiples of this, in milliseconds, so that one call asks for many messages.
    pub poll_tick_ms: u64,
    /// Most messages asked for in one transaction.
    pub poll_batch_size: u32,
    /// Longest sleep of a worker, in milliseconds: the net under the wake-ups. On PostgreSQL at most a second, since other
    /// replicas wake nobody here.
    pub idle_ms: u64,
}

impl Default for SendingConfig {
    fn default() -> Self {
        Self {
            batch_size: 200,
            concurrency: 4,
            call_timeout_ms: 10_000,
            lease_ms: 20_000,
            grace_ms: 10_000,
            deadline_s: 72 * 3600,
            first_poll_ms: 500,
            longest_poll_ms: 300_000,
            poll_tick_ms: 100,
            poll_batch_size: 1000,
            idle_ms: 30_000,
        }
    }
}

impl SendingConfig {
    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}

/// The provider that only plays sending. A number's fate is drawn from the number itself, so it can be foretold.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatorConfig {
    /// File that keeps every message given to it, one JSON object a line. Replicas on one machine may share it; on a network
    /// share they may not.
    pub journal: PathBuf,
    /// Shortest time from taking a message to its final state, in milliseconds.
    pub delay_min_ms: u64,
    /// Longest time from taking a message to its final state, in milliseconds.
    pub delay_max_ms: u64,
    /// How long the simulator takes to answer a call, in milliseconds.
    pub submit_latency_ms: u64,
    /// Share of numbers whose messages end as `UNDELIV`, from 0 to 1.
    pub undeliverable: f64,
    /// Share of numbers whose messages end as `EXPIRED`, from 0 to 1.
    pub expired: f64,
    /// Share of numbers whose messages end as `REJECTD`, from 0 to 1.
    pub rejected: f64,
    /// Share of numbers whose messages end as `DELETED`, from 0 to 1.
    pub deleted: f64,
    /// Share of numbers whose messages never end, from 0 to 1.
    pub lost: f64,
    /// Another seed draws other fates.
    pub seed: u64,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            journal: PathBuf::from("data/sms-simulator.jsonl"),
            delay_min_ms: 200,
            delay_max_ms: 2_500,
            submit_latency_ms: 5,
            undeliverable: 0.02,
            expired: 0.01,
            rejected: 0.0,
            deleted: 0.0,
            lost: 0.0,
            seed: 0,
        }
    }
}

impl Validate for SchedulerConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = self.database.problems("database");
        let mut check = |good: bool, key: &str, message: &str| {
            if !good {
                problems.push(Problem {
                    key: key.to_owned(),
                    message: message.to_owned(),
                });
            }
        };
        check(
            Numbering::of_region(&self.default_region).is_some(),
            "default_region",
            "must be an ISO 3166-1 code of two capital letters",
        );
        check(
            self.default_provider == crate::providers::simulator::NAME,
            "default_provider",
            "must be a provider that is configured: simulator",
        );
        check(
            self.max_upload_rows > 0,
            "max_upload_rows",
            "must be more than 0",
        );
        check(
            (1..=86_400).contains(&self.upload_idle_s),
            "upload_idle_s",
            "must be between 1 and 86400",
        );
        let s = &self.sending;
        check(
            (1..=1000).contains(&s.batch_size),
            "sending.batch_size",
            "must be between 1 and 1000",
        );
        check(
            (1..=64).contains(&s.concurrency),
            "sending.concurrency",
            "must be between 1 and 64",
        );
        check(
            (1..=600_000).contains(&s.call_timeout_ms),
            "sending.call_timeout_ms",
            "must be between 1 and 600000",
        );
        check(
            s.lease_ms >= s.call_timeout_ms.saturating_mul(2) && s.lease_ms <= 86_400_000,
            "sending.lease_ms",
            "must be at least twice call_timeout_ms and at most a day",
        );
        check(
            (100..=3_600_000).contains(&s.grace_ms),
            "sending.grace_ms",
            "must be between 100 and 3600000",
        );
        check(
            (1..=365 * 86_400).contains(&s.deadline_s),
            "sending.deadline_s",
            "must be between a second and a year",
        );
        check(
            (1..=s.longest_poll_ms.min(86_400_000)).contains(&s.first_poll_ms)
                && s.longest_poll_ms <= 86_400_000,
            "sending.first_poll_ms",
            "must be at least 1 and at most longest_poll_ms, which is at most a day",
        );
        check(
            (1..=60_000).contains(&s.poll_tick_ms),
            "sending.poll_tick_ms",
            "must be between 1 and 60000",
        );
        check(
            (1..=1000).contains(&s.poll_batch_size),
            "sending.poll_batch_size",
            "must be between 1 and 1000",
        );
        check(
            (100..=3_600_000).contains(&s.idle_ms),
            "sending.idle_ms",
            "must be between 100 and 3600000",
        );
        problems.extend(self.simulator.problems());
        problems
    }
}

impl SimulatorConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |good: bool, key: &str, message: &str| {
            if !good {
                let key = format!("simulator.{key}");
                problems.push(Problem {
                    key,
                    message: message.to_owned(),
                });
            }
        };
        check(
            !self.journal.as_os_str().is_empty(),
            "journal",
            "must name a file",
        );
        check(
            self.delay_min_ms <= self.delay_max_ms && self.delay_max_ms <= 86_400_000,
            "delay_max_ms",
            "must be at least delay_min_ms and at most a day",
        );
        check(
            self.submit_latency_ms <= 60_000,
            "submit_latency_ms",
            "must be at most 60000",
        );
        let shares = [
            ("undeliverable", self.undeliverable),
            ("expired", self.expired),
            ("rejected", self.rejected),
            ("deleted", self.deleted),
            ("lost", self.lost),
        ];
        for (key, share) in shares {
            check((0.0..=1.0).contains(&share), key, "must be between 0 and 1");
        }
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        check(
            sum <= 1.0 + 1e-9,
            "undeliverable",
            "the shares must not sum to more than 1",
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(config: &SchedulerConfig) -> Vec<String> {
        config
            .validate()
            .into_iter()
            .map(|problem| problem.key)
            .collect()
    }

    #[test]
    fn the_defaults_are_good() {
        let mut config = SchedulerConfig::default();
        config.database.url = "sqlite://x.db?mode=rwc".to_owned();
        assert_eq!(keys_of(&config), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let mut config = SchedulerConfig::default();
        config.database.url = "sqlite://x.db?mode=rwc".to_owned();
        config.default_region = "India".to_owned();
        config.default_provider = "pigeon".to_owned();
        config.sending.lease_ms = 1;
        config.sending.grace_ms = 0;
        config.simulator.lost = f64::NAN;
        config.simulator.expired = 0.99;
        let keys = keys_of(&config);
        for key in [
            "default_region",
            "default_provider",
            "sending.lease_ms",
            "sending.grace_ms",
            "simulator.lost",
        ] {
            assert!(keys.iter().any(|k| k == key), "{key} in {keys:?}");
        }
    }
}
