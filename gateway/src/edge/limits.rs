//! Rate limits by policy, and how they are told (IETF draft-ietf-httpapi-ratelimit-headers: two structured fields).

mod outage_log;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use platform::rate_limit::{Decision, MemoryRateLimitStore, Policy, RateLimitStore};
use platform::{Error, SharedClock};

use crate::config::RateLimitConfig;
use crate::error::Failure;
use outage_log::OutageLog;

/// What to do while the store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// Count within this process: for what must go on and must not be guessed at, such as signing in.
    Local,
    /// Let pass: for reads.
    Open,
    /// Refuse: for what moves money or changes things.
    Closed,
}

/// The policies and the store that counts.
pub(crate) struct Limits {
    pub(crate) anonymous: Policy,
    pub(crate) user: Policy,
    pub(crate) stream: Policy,
    is_enabled: bool,
    shared: Arc<dyn RateLimitStore>,
    local: MemoryRateLimitStore,
    outages: OutageLog,
}

/// Where a client stands after a request was counted.
#[derive(Debug)]
pub(crate) struct Standing {
    name: String,
    quota: u32,
    window: Duration,
    decision: Decision,
}

impl Limits {
    pub(crate) fn new(
        config: &RateLimitConfig,
        shared: Arc<dyn RateLimitStore>,
        clock: SharedClock,
    ) -> Self {
        Self {
            anonymous: config.anonymous.policy("anonymous"),
            user: config.user.policy("user"),
            stream: config.stream.policy("stream"),
            is_enabled: config.enabled,
            shared,
            local: MemoryRateLimitStore::new(clock.clone()),
            outages: OutageLog::new(clock),
        }
    }

    /// Counts one request. `None` when nothing is counted.
    ///
    /// # Errors
    /// `rate_limit_unavailable` when the store is away and the outage rule is [`Outage::Closed`].
    pub(crate) async fn take(
        &self,
        policy: &Policy,
        key: &str,
        outage: Outage,
    ) -> Result<Option<Standing>, Failure> {
        if !self.is_enabled {
            return Ok(None);
        }
        let decision = match self.shared.take(key, policy).await {
            Ok(decision) => {
                self.outages.succeeded();
                decision
            }
            Err(error) => {
                self.outages.failed(&error);
                match outage {
                    Outage::Local => self.local.take(key, policy).await?,
                    Outage::Open => return Ok(None),
                    Outage::Closed => return Err(cannot_count()),
                }
            }
        };
        Ok(Some(Standing {
            name: policy.name.clone(),
            quota: policy.quota,
            window: policy.window,
            decision,
        }))
    }
}

impl Standing {
    /// The refusal, when there is one.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        (!self.decision.allowed)
            .then(|| Failure::quota_exceeded(&self.name, self.decision.retry_after))
    }

    /// Writes `RateLimit-Policy` and `RateLimit`.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let Self {
            name,
            quota,
            window,
            decision,
        } = self;
        let more = if decision.remaining == 0 {
            decision.retry_after
        } else {
            decision.reset_after
        };
        let policy = format!("\"{name}\";q={quota};w={}", window.as_secs());
        let limit = format!(
            "\"{name}\";r={};t={}",
            decision.remaining,
            whole_seconds(more)
        );
        for (field, value) in [("ratelimit-policy", policy), ("ratelimit", limit)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(field, value);
            }
        }
    }
}

fn cannot_count() -> Failure {
    let message = "requests cannot be counted at the moment";
    Error::unavailable("rate_limit_unavailable", message)
        .with_retry_after(Duration::from_secs(1))
        .into()
}

/// Rounded up, so that nobody comes too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use platform::clock::SystemClock;

    struct Away;

    #[async_trait]
    impl RateLimitStore for Away {
        async fn take(&self, _: &str, _: &Policy) -> Result<Decision, Error> {
            Err(Error::unavailable("redis_unavailable", "gone"))
        }
    }

    #[tokio::test]
    async fn without_the_store_each_class_has_its_rule() {
        let limits = Limits::new(
            &RateLimitConfig::default(),
            Arc::new(Away),
            SystemClock::shared(),
        );
        let policy = Policy {
            name: "x".into(),
            quota: 1,
            window: Duration::from_secs(60),
        };
        assert!(
            limits
                .take(&policy, "a", Outage::Open)
                .await
                .unwrap()
                .is_none()
        );
        assert!(limits.take(&policy, "a", Outage::Closed).await.is_err());
        let first = limits
            .take(&policy, "a", Outage::Local)
            .await
            .unwrap()
            .unwrap();
        assert!(first.refusal().is_none());
        let second = limits
            .take(&policy, "a", Outage::Local)
            .await
            .unwrap()
            .unwrap();
        assert!(second.refusal().is_some());
    }

    #[test]
    fn the_fields_are_those_of_the_draft() {
        let standing = Standing {
            name: "user".into(),
            quota: 1000,
            window: Duration::from_secs(60),
            decision: Decision {
                allowed: true,
                remaining: 998,
                reset_after: Duration::from_millis(120),
                retry_after: Duration::ZERO,
            },
        };
        let mut headers = HeaderMap::new();
        standing.tell(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"user\";q=1000;w=60");
        assert_eq!(headers["ratelimit"], "\"user\";r=998;t=1");
    }
}
