//! Settings.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use platform::config::{Problem, Validate};
use platform::database::DatabaseConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::send_mails::Policy;
use crate::commands::trim::Retention;

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

/// How mails leave the house.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MailConfig {
    /// Folder into which mails are written, one `.eml` file each.
    pub folder: PathBuf,
    /// Who the mails come from, as `Name <address>`.
    pub from: String,
    /// Where people reach the product; links in mails begin with it.
    pub public_url: String,
    /// How often a mail is tried before it is given up.
    pub attempts: u32,
    /// Wait after the first failure, in milliseconds; doubles each time.
    pub first_wait_ms: u64,
    /// Longest wait between two tries, in milliseconds.
    pub longest_wait_ms: u64,
    /// How long sending one mail may take, in milliseconds.
    pub send_timeout_ms: u64,
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
    /// stream stays quiet. Only a net: a commit pokes its readers at once.
    pub look_every_ms: u64,
    /// Seconds between two rounds of removing what need not be kept.
    pub trim_every_s: u64,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("data/mail"),
            from: "Coffer <coffer@localhost>".to_owned(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            attempts: 8,
            first_wait_ms: 5_000,
            longest_wait_ms: 600_000,
            send_timeout_ms: 30_000,
        }
    }
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

impl MailConfig {
    /// Who the mails come from.
    pub(crate) fn sender(&self) -> Result<Mailbox, lettre::address::AddressError> {
        self.from.parse()
    }

    /// How mails are tried.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            attempts: self.attempts,
            first_wait: Duration::from_millis(self.first_wait_ms),
            longest_wait: Duration::from_millis(self.longest_wait_ms),
            send_timeout: Duration::from_millis(self.send_timeout_ms),
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
        let mut check = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem {
                    key: key.to_owned(),
                    message: message.to_owned(),
                });
            }
        };
        let (mail, stream) = (&self.mail, &self.stream);
        check(
            !mail.folder.as_os_str().is_empty(),
            "mail.folder",
            "must not be empty",
        );
        check(
            mail.sender().is_ok(),
            "mail.from",
            "must be an address or `Name <address>`",
        );
        check(
            mail.public_url
                .parse::<tonic::transport::Uri>()
                .is_ok_and(|uri| {
                    matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none()
                }),
            "mail.public_url",
            "must be an http or https address without a query",
        );
        check(
            (1..=100).contains(&mail.attempts),
            "mail.attempts",
            "must be between 1 and 100",
        );
        check(
            (1..=mail.longest_wait_ms).contains(&mail.first_wait_ms),
            "mail.first_wait_ms",
            "must be at least 1 and at most mail.longest_wait_ms",
        );
        check(
            mail.longest_wait_ms <= 24 * 3_600_000,
            "mail.longest_wait_ms",
            "must be at most a day",
        );
        check(
            (1..=600_000).contains(&mail.send_timeout_ms),
            "mail.send_timeout_ms",
            "must be between 1 and 600000",
        );
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
