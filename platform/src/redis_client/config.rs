//! How to reach Redis.

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Problem, Validate};

/// Most characters of the prefix.
const LONGEST_PREFIX: usize = 64;

/// How to reach Redis.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://user:password@host:6379/0`, or `rediss://` for TLS with the certificates that the system trusts.
    /// Redis 7 or later.
    pub url: String,
    /// What all names in Redis begin with, so that installations may share a server.
    pub prefix: String,
    /// Longest wait for one answer, in milliseconds; after that Redis counts as away.
    pub timeout_ms: u64,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            prefix: "coffer".to_owned(),
            timeout_ms: 250,
        }
    }
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisConfig")
            .field("prefix", &self.prefix)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// Where and how to connect; `None` when the URL is none of Redis.
    pub(super) fn connection_info(&self) -> Option<ConnectionInfo> {
        let is_known = ["redis://", "rediss://"]
            .iter()
            .any(|scheme| self.url.starts_with(scheme));
        // `#insecure` would switch off the check of certificates.
        if !is_known || self.url.contains('#') {
            return None;
        }
        let info = self.url.as_str().into_connection_info().ok()?;
        // RESP3 tells of a lost connection without being asked, and carries pushes beside answers.
        let redis = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Some(info.set_redis_settings(redis).set_tcp_settings(tcp))
    }

    /// Problems of this section; `key` is its name in the configuration.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        crate::config::nested(key, self)
    }
}

impl Validate for RedisConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.connection_info().is_none() {
            problems.push(Problem::new(
                "url",
                "must be redis://host:port or rediss://host:port, perhaps with a login and the number of a database",
            ));
        }
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=LONGEST_PREFIX).contains(&self.prefix.len()) || !self.prefix.bytes().all(is_plain)
        {
            problems.push(Problem::new(
                "prefix",
                "must be 1 to 64 letters, digits, `-`, `_` or `.`",
            ));
        }
        if !(1..=10_000).contains(&self.timeout_ms) {
            problems.push(Problem::new(
                "timeout_ms",
                "must be between 1 and 10000 (ten seconds)",
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_url(url: &str) -> RedisConfig {
        RedisConfig {
            url: url.to_owned(),
            ..RedisConfig::default()
        }
    }

    #[test]
    fn urls_of_redis_are_taken_and_others_refused() {
        for good in [
            "redis://localhost",
            "redis://u:p@10.0.0.1:6380/3",
            "rediss://cache.example.org",
        ] {
            assert!(with_url(good).validate().is_empty(), "{good}");
        }
        for bad in [
            "",
            "localhost:6379",
            "unix:///tmp/redis.sock",
            "redis://",
            "redis://localhost/x",
            "rediss://localhost/#insecure",
            "redis://0.0.0.0",
        ] {
            assert_eq!(with_url(bad).problems("redis").len(), 1, "{bad}");
        }
    }

    #[test]
    fn every_problem_is_told_and_no_password() {
        let config = RedisConfig {
            url: "redis://:hunter2@host/x".to_owned(),
            prefix: "{a}".to_owned(),
            timeout_ms: 0,
        };
        let problems = config.problems("redis");
        let keys: Vec<_> = problems.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["redis.url", "redis.prefix", "redis.timeout_ms"]);
        assert!(!format!("{problems:?} {config:?}").contains("hunter2"));
    }
}
