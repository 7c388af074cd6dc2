//! Settings.

mod mail;

use std::time::Duration;

use platform::config::{Problem, Profile, Validate};
use platform::database::DatabaseConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::trim::Retention;

pub(crate) use mail::roots;
pub use mail::{MailChannel, MailConfig, SmtpConfig, SmtpTls};

/// Settings of notify-service.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NotifyConfig {
    /// Where inbox, streams and mails are kept.
    pub database: DatabaseConfig,
    /// How mails leave the house.
    pub mail: MailConfig,
    /// The numbered stream of each user.
    pub stream: StreamConfig,
    /// The inbox of each user.
    pub inbox: InboxConfig,
}

/// The inbox of each user.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InboxConfig {
    /// Days for which notifications are kept, read or not.
    pub keep_days: u32,
    /// Most notifications that are kept for one user; the oldest go.
    pub keep_per_user: u32,
    /// Most test notifications that a user may ask for in a minute.
    pub tests_per_minute: u32,
}

impl Default for InboxConfig {
    fn default() -> Self {
        Self {
            keep_days: 365,
            keep_per_user: 1_000,
            tests_per_minute: 10,
        }
    }
}

/// The numbered stream of each user.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// Days for which events and acknowledgements are kept.
    pub keep_days: u32,
    /// Most events that are kept for one user.
    pub keep_events_per_user: u32,
    /// Milliseconds after which a connection that heard nothing looks by itself; doubles up to eight times this while the
    /// stream stays quiet. Only a net: a commit pokes its readers at once. While pokes cannot be had, it is what events
    /// wait for, and does not double.
    pub look_every_ms: u64,
    /// Seconds between two rounds of removing what need not be kept.
    pub trim_every_s: u64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            keep_days: 30,
            keep_events_per_user: 10_000,
            look_every_ms: 5_000,
            trim_every_s: 600,
        }
    }
}

impl NotifyConfig {
    /// What is kept.
    pub(crate) fn retention(&self) -> Retention {
        let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 3600);
        Retention {
            age: days(self.stream.keep_days),
            events_per_user: i64::from(self.stream.keep_events_per_user),
            inbox_age: days(self.inbox.keep_days),
            entries_per_user: i64::from(self.inbox.keep_per_user),
        }
    }
}

impl Validate for NotifyConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = self.database.problems("database");
        let mail = self.mail.problems(Profile::of_process()).into_iter();
        problems.extend(mail.map(|p| Problem::new(format!("mail.{}", p.key), p.message)));
        let mut check = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem {
                    key: key.to_owned(),
                    message: message.to_owned(),
                });
            }
        };
        let stream = &self.stream;
        check(
            (1..=3650).contains(&stream.keep_days),
            "stream.keep_days",
            "must be 1 to 3650",
        );
        check(
            (1..=1_000_000).contains(&stream.keep_events_per_user),
            "stream.keep_events_per_user",
            "must be between 1 and 1000000",
        );
        check(
            (100..=3_600_000).contains(&stream.look_every_ms),
            "stream.look_every_ms",
            "must be between 100 and 3600000",
        );
        check(
            (1..=86_400).contains(&stream.trim_every_s),
            "stream.trim_every_s",
            "must be between 1 and 86400",
        );
        let inbox = &self.inbox;
        check(
            (1..=3650).contains(&inbox.keep_days),
            "inbox.keep_days",
            "must be 1 to 3650",
        );
        check(
            (1..=1_000_000).contains(&inbox.keep_per_user),
            "inbox.keep_per_user",
            "must be between 1 and 1000000",
        );
        check(
            (1..=1000).contains(&inbox.tests_per_minute),
            "inbox.tests_per_minute",
            "must be between 1 and 1000",
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_database() -> NotifyConfig {
        let database = DatabaseConfig {
            url: "sqlite::memory:".to_owned(),
            ..Default::default()
        };
        NotifyConfig {
            database,
            ..Default::default()
        }
    }

    #[test]
    fn the_defaults_are_valid_once_a_database_is_named() {
        let problems = with_database().validate();
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let mut config = with_database();
        config.mail.from = "nobody".to_owned();
        config.mail.public_url = "javascript:alert(1)".to_owned();
        config.mail.attempts = 0;
        config.mail.first_wait_ms = config.mail.longest_wait_ms + 1;
        config.stream.keep_days = 0;
        config.stream.look_every_ms = 1;
        config.inbox.tests_per_minute = 0;
        let keys: Vec<_> = config
            .validate()
            .into_iter()
            .map(|problem| problem.key)
            .collect();
        assert_eq!(
            keys,
            [
                "mail.from",
                "mail.public_url",
                "mail.attempts",
                "mail.first_wait_ms",
                "stream.keep_days",
                "stream.look_every_ms",
                "inbox.tests_per_minute",
            ]
        );
    }
}
