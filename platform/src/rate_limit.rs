//! Rate limits by GCRA (the generic cell rate algorithm): one number per key, no windows to burst at the edge of.

mod memory;
mod redis;

use std::time::Duration;

use async_trait::async_trait;

use crate::Error;

pub use self::memory::MemoryRateLimitStore;
pub use self::redis::RedisRateLimitStore;

/// The longest window that is kept, ten years; a longer one counts as this.
const LONGEST_WINDOW: Duration = Duration::from_secs(3650 * 24 * 3600);

/// How much is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Name for headers and keys, e.g. `user`.
    pub name: String,
    /// Requests per window; also the most that may come at once.
    pub quota: u32,
    /// Time in which the whole quota grows back; at most ten years.
    pub window: Duration,
}

impl Policy {
    /// Microseconds in which one request grows back; at least one.
    fn interval(&self) -> i64 {
        let window = self.window.min(LONGEST_WINDOW).as_micros();
        let window = i64::try_from(window).unwrap_or(i64::MAX);
        (window / i64::from(self.quota.max(1))).max(1)
    }

    /// Microseconds in which the whole quota grows back.
    fn burst(&self) -> i64 {
        self.interval().saturating_mul(i64::from(self.quota))
    }
}

/// What the store decided about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may pass.
    pub allowed: bool,
    /// Requests that may follow at once.
    pub remaining: u32,
    /// Time until the whole quota is there again.
    pub reset_after: Duration,
    /// Time until the next request may pass; zero when one may now.
    pub retry_after: Duration,
}

/// Counts requests for all who share the store.
#[async_trait]
pub trait RateLimitStore: Send + Sync {
    /// Takes one request of `policy` for `key`; atomic, in one round trip.
    ///
    /// # Errors
    /// `redis_unavailable` when the store is away, at the latest after the time that it was told to wait. The caller
    /// decides by the class of the route.
    async fn take(&self, key: &str, policy: &Policy) -> Result<Decision, Error>;
}

/// Decides one request: `arrival` is the theoretical arrival time kept for the key, all in microseconds.
/// Returns the decision and the time to keep, which a refusal leaves as it was. What was kept never counts as further ahead
/// than the whole quota, even where the policy was larger once or the clock was set back.
fn decide(policy: &Policy, arrival: Option<i64>, now: i64) -> (Decision, i64) {
    let interval = policy.interval();
    let burst = policy.burst();
    let kept = arrival.unwrap_or(now).clamp(now, now.saturating_add(burst));
    let next = kept.saturating_add(interval);
    let micros = |n: i64| Duration::from_micros(u64::try_from(n).unwrap_or(0));
    if next - now > burst {
        let wait = next - now - burst;
        let decision = Decision {
            allowed: false,
            remaining: 0,
            reset_after: micros(kept - now),
            retry_after: micros(wait),
        };
        return (decision, arrival.unwrap_or(now));
    }
    let left = (burst - (next - now)) / interval;
    let decision = Decision {
        allowed: true,
        remaining: u32::try_from(left).unwrap_or(0),
        reset_after: micros(next - now),
        retry_after: if left > 0 {
            Duration::ZERO
        } else {
            micros(next + interval - now - burst)
        },
    };
    (decision, next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(quota: u32, seconds: u64) -> Policy {
        Policy {
            name: "test".to_owned(),
            quota,
            window: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn the_quota_may_come_at_once_and_grows_back_evenly() {
        let policy = policy(10, 10);
        let mut kept = None;
        for left in (0..10).rev() {
            let (decision, arrival) = decide(&policy, kept, 0);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, left);
            kept = Some(arrival);
        }
        let (decision, arrival) = decide(&policy, kept, 0);
        assert!(!decision.allowed);
        assert_eq!(decision.retry_after, Duration::from_secs(1));
        let (decision, _) = decide(&policy, Some(arrival), 1_000_000);
        assert!(decision.allowed);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_grew_back(
            quota in 1_u32..50,
            steps in proptest::collection::vec(0_i64..2_000_000, 1..300),
        ) {
            let policy = policy(quota, 10);
            let (mut now, mut kept, mut passed) = (0, None, 0_i64);
            for step in steps {
                now += step;
                let (decision, arrival) = decide(&policy, kept, now);
                kept = Some(arrival);
                passed += i64::from(decision.allowed);
                let grown = now / policy.interval();
                prop_assert!(passed <= i64::from(quota) + grown);
            }
        }

        #[test]
        fn who_waits_as_told_passes(quota in 1_u32..50, tries in 1_usize..200) {
            let policy = policy(quota, 60);
            let (mut now, mut kept) = (0, None);
            for _ in 0..tries {
                let (decision, arrival) = decide(&policy, kept, now);
                kept = Some(arrival);
                if !decision.allowed {
                    now += i64::try_from(decision.retry_after.as_micros()).unwrap();
                    let (again, arrival) = decide(&policy, kept, now);
                    prop_assert!(again.allowed);
                    kept = Some(arrival);
                }
            }
        }
    }
}
