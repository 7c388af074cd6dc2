//! Settings of auth-service.

use std::time::Duration;

use platform::config::{Problem, Validate};
use platform::database::DatabaseConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::profile;
use crate::domain::session::Lifetimes;
use crate::domain::throttle::Allowance;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of auth-service.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Where accounts and sessions are kept.
    pub database: DatabaseConfig,
    /// How passwords are hashed. Stored hashes move to new settings at the next sign-in of their owner.
    pub password_hash: PasswordHashConfig,
    /// How long sessions last.
    pub session: SessionConfig,
    /// The brake on failed tries. Successes are not counted.
    pub throttle: ThrottleConfig,
    /// Mails that identity asks for.
    pub mail: MailConfig,
    /// What a new user's profile says until the user changes it.
    pub profile: ProfileConfig,
    /// How people are searched.
    pub search: SearchConfig,
}

/// How people are searched.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// Most searches that are worked on at once; they must leave connections to everything else.
    pub at_once: usize,
    /// How long a search waits for its turn, in milliseconds, before it is refused with 503.
    pub queue_deadline_ms: u64,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            at_once: 3,
            queue_deadline_ms: 1_000,
        }
    }
}

/// Argon2id parameters and how many hashes may be worked on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordHashConfig {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Hashes worked on at once; 0 means one for each core.
    pub threads: usize,
    /// Most hashes that wait for their turn; further ones are refused at once with 503.
    pub queue: usize,
    /// How long a hash waits for its turn, in milliseconds, before it is refused with 503.
    pub queue_deadline_ms: u64,
}

impl Default for PasswordHashConfig {
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            iterations: 2,
            parallelism: 1,
            threads: 0,
            queue: 512,
            queue_deadline_ms: 5_000,
        }
    }
}

/// How long sessions last.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// Unused, a session ends after so many days.
    pub refresh_days: u32,
    /// The same with "remember me".
    pub remembered_days: u32,
    /// However much it is used, a session ends after so many days.
    pub absolute_days: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            refresh_days: 7,
            remembered_days: 30,
            absolute_days: 90,
        }
    }
}

impl SessionConfig {
    /// The same as durations.
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            refresh: DAY.saturating_mul(self.refresh_days),
            remembered: DAY.saturating_mul(self.remembered_days),
            absolute: DAY.saturating_mul(self.absolute_days),
        }
    }
}

/// The brake on failed tries.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleConfig {
    /// How long a failure counts and how long the pause lasts, in seconds.
    pub window_s: u32,
    /// Failed sign-ins to one account from one address. The owner's other addresses stay open.
    pub sign_in_per_account: u32,
    /// Failed sign-ins from one address to whatever accounts.
    pub sign_in_per_address: u32,
    /// Registrations with taken addresses from one block of addresses.
    pub register_per_block: u32,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self {
            window_s: 15 * 60,
            sign_in_per_account: 5,
            sign_in_per_address: 50,
            register_per_block: 20,
        }
    }
}

impl ThrottleConfig {
    /// So many failures within the window.
    pub fn allow(&self, failures: u32) -> Allowance {
        Allowance {
            failures,
            window: Duration::from_secs(u64::from(self.window_s)),
        }
    }
}

/// Mails that identity asks for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MailConfig {
    /// How long a verification token works, in hours.
    pub verification_hours: u32,
    /// Shortest time between two verification mails to a user, in seconds.
    pub resend_pause_s: u32,
    /// Most verification mails to a user in an hour.
    pub resend_per_hour: u32,
    /// Shortest time between two mails that tell an owner of registrations with the address, in seconds.
    pub notice_pause_s: u32,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            verification_hours: 24,
            resend_pause_s: 60,
            resend_per_hour: 5,
            notice_pause_s: 60 * 60,
        }
    }
}

/// What a new user's profile says.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileConfig {
    /// IANA time zone.
    pub time_zone: String,
    /// BCP 47 language tag.
    pub locale: String,
}

impl Default for ProfileConfig {
    fn default() -> Self {
        Self {
            time_zone: "UTC".to_owned(),
            locale: "en".to_owned(),
        }
    }
}

impl Validate for AuthConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut found = Found(self.database.problems("database"));
        let hash = &self.password_hash;
        found.outside("password_hash.memory_kib", hash.memory_kib, 8, 4_194_304);
        found.outside("password_hash.iterations", hash.iterations, 1, 100);
        found.outside("password_hash.parallelism", hash.parallelism, 1, 16);
        if hash.memory_kib < hash.parallelism.saturating_mul(8) {
            found.add(
                "password_hash.memory_kib",
                "must be at least 8 for each lane",
            );
        }
        found.outside("password_hash.threads", hash.threads, 0, 1_024);
        found.outside("password_hash.queue", hash.queue, 1, 100_000);
        found.outside(
            "password_hash.queue_deadline_ms",
            hash.queue_deadline_ms,
            1,
            60_000,
        );

        let session = &self.session;
        found.outside("session.refresh_days", session.refresh_days, 1, 3_650);
        found.outside("session.remembered_days", session.remembered_days, 1, 3_650);
        found.outside("session.absolute_days", session.absolute_days, 1, 3_650);

        let throttle = &self.throttle;
        found.outside("throttle.window_s", throttle.window_s, 1, 86_400);
        let most = 1_000_000;
        found.outside(
            "throttle.sign_in_per_account",
            throttle.sign_in_per_account,
            1,
            most,
        );
        found.outside(
            "throttle.sign_in_per_address",
            throttle.sign_in_per_address,
            1,
            most,
        );
        found.outside(
            "throttle.register_per_block",
            throttle.register_per_block,
            1,
            most,
        );

        let mail = &self.mail;
        found.outside("mail.verification_hours", mail.verification_hours, 1, 720);
        found.outside("mail.resend_pause_s", mail.resend_pause_s, 0, 3_600);
        found.outside("mail.resend_per_hour", mail.resend_per_hour, 1, 1_000);
        found.outside("mail.notice_pause_s", mail.notice_pause_s, 0, 2_592_000);

        let search = &self.search;
        found.outside("search.at_once", search.at_once, 1, 1_000);
        found.outside(
            "search.queue_deadline_ms",
            search.queue_deadline_ms,
            1,
            60_000,
        );

        if let Err(invalid) = profile::parse_time_zone(&self.profile.time_zone) {
            found.add("profile.time_zone", invalid.0);
        }
        if let Err(invalid) = profile::parse_locale(&self.profile.locale) {
            found.add("profile.locale", invalid.0);
        }
        found.0
    }
}

struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(Problem {
            key: key.to_owned(),
            message: message.into(),
        });
    }

    fn outside<N: PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: N,
        least: N,
        most: N,
    ) {
        if value < least || value > most {
            self.add(key, format!("must be between {least} and {most}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_need_only_a_database() {
        let keys: Vec<_> = AuthConfig::default()
            .validate()
            .into_iter()
            .map(|p| p.key)
            .collect();
        assert_eq!(keys, ["database.url"]);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let mut config = AuthConfig::default();
        config.database.url = "sqlite::memory:".to_owned();
        config.password_hash.memory_kib = 0;
        config.session.refresh_days = 0;
        config.throttle.sign_in_per_account = 0;
        config.profile.time_zone = "Mars".to_owned();
        let mut keys: Vec<_> = config.validate().into_iter().map(|p| p.key).collect();
        keys.dedup();
        assert_eq!(
            keys,
            [
                "password_hash.memory_kib",
                "session.refresh_days",
                "throttle.sign_in_per_account",
                "profile.time_zone"
            ]
        );
    }
}
