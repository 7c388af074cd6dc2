//! Settings of the gateway.

use std::time::Duration;

use platform::config::{Problem, Validate};
use platform::rate_limit::Policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::edge::client_address::Network;

/// Settings of the public door.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Whether clients reach the gateway over TLS only; answers then carry `Strict-Transport-Security`.
    pub https_only: bool,
    /// Networks (`10.0.0.0/8`, `::1`) whose `X-Forwarded-For` is believed. Empty: the peer is the client.
    pub trusted_proxies: Vec<String>,
    /// Origins (`https://app.example.org`) that browsers may call from. Empty: none but our own.
    pub cors_allowed_origins: Vec<String>,
    /// Longest that a request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// Longest that a client may take to send the head of a request, in milliseconds; also ends idle connections.
    pub header_timeout_ms: u64,
    /// Longest that a client may take to send a JSON body, in milliseconds.
    pub body_timeout_ms: u64,
    /// Largest JSON body, in bytes.
    pub body_limit_bytes: usize,
    /// Largest upload, in bytes.
    pub upload_limit_bytes: usize,
    /// Longest pause within an upload, in milliseconds.
    pub upload_idle_timeout_ms: u64,
    /// Longest that an upload may take as a whole, in milliseconds.
    pub upload_timeout_ms: u64,
    /// Time from the start of an upload after which its pace counts, in milliseconds.
    pub upload_grace_ms: u64,
    /// Fewest bytes a second of an upload, on average since its start.
    pub upload_min_bytes_per_second: u64,
    /// Uploads that are under way at a time; more are answered 503 at once.
    pub max_concurrent_uploads: usize,
    /// Uploads that one user may have under way at a time.
    pub max_uploads_per_user: u32,
    /// Requests that are worked on at a time, uploads not counted; more are answered 503 at once.
    pub max_concurrent_requests: usize,
    /// Connections that are open at a time, sockets of the stream included; more wait.
    pub max_connections: usize,
    /// Connections that one address (of IPv6: one /64) may hold at a time; trusted proxies may hold any number. More are
    /// closed at once.
    pub max_connections_per_client: u32,
    /// Longest that a client may take none of the bytes that wait for it, in milliseconds.
    pub write_timeout_ms: u64,
    /// Rate limits.
    pub rate_limit: RateLimitConfig,
    /// The WebSocket stream.
    pub stream: StreamConfig,
    /// The ready check.
    pub health: HealthConfig,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            https_only: false,
            trusted_proxies: Vec::new(),
            cors_allowed_origins: Vec::new(),
            request_timeout_ms: 30_000,
            header_timeout_ms: 20_000,
            body_timeout_ms: 15_000,
            body_limit_bytes: 1024 * 1024,
            upload_limit_bytes: 256 * 1024 * 1024,
            upload_idle_timeout_ms: 30_000,
            upload_timeout_ms: 1_800_000,
            upload_grace_ms: 30_000,
            // 1 KiB in 10 s.
            upload_min_bytes_per_second: 102,
            max_concurrent_uploads: 64,
            max_uploads_per_user: 2,
            max_concurrent_requests: 2_048,
            max_connections: 16_384,
            max_connections_per_client: 1_024,
            write_timeout_ms: 30_000,
            rate_limit: RateLimitConfig::default(),
            stream: StreamConfig::default(),
            health: HealthConfig::default(),
        }
    }
}

/// Rate limits by class of route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Switch off for load tests only.
    pub enabled: bool,
    /// Calls without a valid token, and every call that signs in or registers; per address.
    pub anonymous: QuotaConfig,
    /// Calls with a valid token; per user.
    pub user: QuotaConfig,
    /// Opening sockets of the stream; per address.
    pub stream: QuotaConfig,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            anonymous: QuotaConfig {
                quota: 100,
                window_seconds: 900,
            },
            user: QuotaConfig {
                quota: 1_000,
                window_seconds: 60,
            },
            stream: QuotaConfig {
                quota: 300,
                window_seconds: 60,
            },
        }
    }
}

/// How many calls in how long.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaConfig {
    /// Calls that are allowed within the window.
    pub quota: u32,
    /// Length of the window, in seconds.
    pub window_seconds: u32,
}

impl QuotaConfig {
    /// The policy of this quota under a name.
    pub(crate) fn policy(self, name: &'static str) -> Policy {
        Policy {
            name: name.into(),
            quota: self.quota,
            window: Duration::from_secs(self.window_seconds.into()),
        }
    }
}

/// The WebSocket stream.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// Sockets that one user may hold at a time.
    pub max_per_user: u32,
    /// Longest that a client may take to say hello, in milliseconds.
    pub hello_timeout_ms: u64,
    /// Time between two pings, in milliseconds; a client that misses two is dropped.
    pub ping_interval_ms: u64,
    /// Longest that a client may take to accept one frame, in milliseconds.
    pub send_timeout_ms: u64,
    /// Events that wait for one client at most.
    pub buffer: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            max_per_user: 20,
            hello_timeout_ms: 5_000,
            ping_interval_ms: 30_000,
            send_timeout_ms: 10_000,
            buffer: 256,
        }
    }
}

/// The ready check.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Services without which the gateway is not ready: `auth-service`, `wallet-service`, `notify-service`,
    /// `scheduler-service`. A service that is not named here costs only its own routes.
    pub critical: Vec<String>,
    /// Longest wait for one service, in milliseconds.
    pub timeout_ms: u64,
    /// How long a result is kept, in milliseconds, since anybody may ask.
    pub cache_ms: u64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            critical: vec!["auth-service".to_owned()],
            timeout_ms: 2_000,
            cache_ms: 1_000,
        }
    }
}

impl Validate for GatewayConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem {
                    key: key.to_owned(),
                    message: message.into(),
                });
            }
        };
        for (value, key) in [
            (self.request_timeout_ms, "request_timeout_ms"),
            (self.header_timeout_ms, "header_timeout_ms"),
            (self.body_timeout_ms, "body_timeout_ms"),
            (self.upload_idle_timeout_ms, "upload_idle_timeout_ms"),
            (self.upload_timeout_ms, "upload_timeout_ms"),
            (self.upload_grace_ms, "upload_grace_ms"),
            (self.write_timeout_ms, "write_timeout_ms"),
            (self.stream.hello_timeout_ms, "stream.hello_timeout_ms"),
            (self.stream.ping_interval_ms, "stream.ping_interval_ms"),
            (self.stream.send_timeout_ms, "stream.send_timeout_ms"),
            (self.health.timeout_ms, "health.timeout_ms"),
        ] {
            require(
                (1..=86_400_000).contains(&value),
                key,
                "must be between 1 and 86400000 (one day)",
            );
        }
        for (value, key) in [
            (self.body_limit_bytes, "body_limit_bytes"),
            (self.upload_limit_bytes, "upload_limit_bytes"),
            (self.max_concurrent_requests, "max_concurrent_requests"),
            (self.max_concurrent_uploads, "max_concurrent_uploads"),
            (self.max_connections, "max_connections"),
            (self.stream.buffer, "stream.buffer"),
        ] {
            require(
                (1..=1 << 40).contains(&value),
                key,
                "must be more than zero",
            );
        }
        for (value, key) in [
            (self.stream.max_per_user, "stream.max_per_user"),
            (self.max_uploads_per_user, "max_uploads_per_user"),
            (
                self.max_connections_per_client,
                "max_connections_per_client",
            ),
        ] {
            require(value > 0, key, "must be more than zero");
        }
        require(
            (1..=1 << 30).contains(&self.upload_min_bytes_per_second),
            "upload_min_bytes_per_second",
            "must be between 1 and 1073741824",
        );
        for (quota, key) in [
            (self.rate_limit.anonymous, "rate_limit.anonymous"),
            (self.rate_limit.user, "rate_limit.user"),
            (self.rate_limit.stream, "rate_limit.stream"),
        ] {
            require(
                quota.quota > 0 && quota.window_seconds > 0,
                key,
                "needs a quota and a window of more than zero",
            );
        }
        for network in &self.trusted_proxies {
            require(
                Network::parse(network).is_some(),
                "trusted_proxies",
                &format!("`{network}` is neither an address nor a network such as 10.0.0.0/8"),
            );
        }
        for origin in &self.cors_allowed_origins {
            require(
                is_origin(origin),
                "cors_allowed_origins",
                &format!("`{origin}` is not an origin such as https://app.example.org"),
            );
        }
        for service in &self.health.critical {
            require(
                crate::clients::SERVICES.contains(&service.as_str()),
                "health.critical",
                &format!(
                    "`{service}` is none of {}",
                    crate::clients::SERVICES.join(", ")
                ),
            );
        }
        problems
    }
}

/// Whether the text is a scheme and an authority and nothing else.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else {
        return false;
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some()
        && !text.ends_with('/')
        && uri.path_and_query().is_none_or(|rest| rest.as_str() == "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(GatewayConfig::default().validate().is_empty());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut config = GatewayConfig {
            request_timeout_ms: 0,
            trusted_proxies: vec!["10.0.0.0/33".into()],
            cors_allowed_origins: vec!["*".into(), "https://a.example/x".into()],
            ..GatewayConfig::default()
        };
        config.rate_limit.user.quota = 0;
        config.health.critical.push("nobody".into());
        let keys: Vec<_> = config
            .validate()
            .into_iter()
            .map(|problem| problem.key)
            .collect();
        assert_eq!(
            keys,
            [
                "request_timeout_ms",
                "rate_limit.user",
                "trusted_proxies",
                "cors_allowed_origins",
                "cors_allowed_origins",
                "health.critical",
            ]
        );
    }
}
