//! What every store of rate limits promises, as tests that each adapter passes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::rate_limit::{Decision, Policy, RateLimitStore};

/// Where the suite runs: one set of counters, and the clock that they go by.
#[async_trait]
pub trait Range: Send + Sync {
    /// The store as two processes have it; it may be the same object.
    fn stores(&self) -> [Arc<dyn RateLimitStore>; 2];

    /// The time by which the store counts.
    async fn now(&self) -> Timestamp;

    /// Returns once [`Range::now`] is at or after `at`.
    async fn reach(&self, at: Timestamp);
}

/// Runs every test of the suite.
///
/// # Panics
/// When the store breaks a promise.
pub async fn run(range: &dyn Range) {
    the_quota_may_come_at_once_and_grows_back(range).await;
    who_waits_as_told_passes(range).await;
    policies_and_keys_do_not_touch_each_other(range).await;
    concurrent_takers_get_the_burst_and_what_grew_back(range).await;
    odd_keys_and_policies_break_nothing(range).await;
    a_policy_that_shrank_lets_nobody_wait_longer_than_it_says(range).await;
}

fn policy(name: &str, quota: u32, window: Duration) -> Policy {
    Policy {
        name: name.to_owned(),
        quota,
        window,
    }
}

async fn take(store: &dyn RateLimitStore, key: &str, policy: &Policy) -> Decision {
    store.take(key, policy).await.expect("a decision")
}

async fn pass(range: &dyn Range, time: Duration) {
    let time = SignedDuration::try_from(time).expect("a short time");
    range.reach(range.now().await + time).await;
}

async fn the_quota_may_come_at_once_and_grows_back(range: &dyn Range) {
    let [here, there] = range.stores();
    // So slow that nothing grows back while we count.
    let slow = policy("burst", 10, Duration::from_secs(3600));
    let grain = Duration::from_secs(360);
    for left in (0..10).rev() {
        let store = if left % 2 == 0 { &here } else { &there };
        let decision = take(&**store, "k", &slow).await;
        assert!(decision.allowed);
        assert_eq!(decision.remaining, left);
        let used = grain * (10 - left);
        assert!(decision.reset_after <= used && decision.reset_after > used - grain / 2);
        assert_eq!(decision.retry_after.is_zero(), left > 0);
    }
    let refused = take(&*there, "k", &slow).await;
    assert!(!refused.allowed);
    assert_eq!(refused.remaining, 0);
    assert!(refused.retry_after <= grain && refused.retry_after > grain / 2);

    let quick = policy("grows", 2, Duration::from_millis(200));
    pass(range, Duration::from_millis(1)).await;
    assert_eq!(take(&*here, "k", &quick).await.remaining, 1);
    take(&*here, "k", &quick).await;
    pass(range, Duration::from_millis(200)).await;
    assert_eq!(take(&*there, "k", &quick).await.remaining, 1);
}

async fn who_waits_as_told_passes(range: &dyn Range) {
    let [here, there] = range.stores();
    let policy = policy("wait", 4, Duration::from_millis(400));
    let mut refused = 0;
    for _ in 0..12 {
        let decision = take(&*here, "k", &policy).await;
        if !decision.allowed {
            refused += 1;
            assert!(!decision.retry_after.is_zero());
            pass(range, decision.retry_after).await;
            assert!(take(&*there, "k", &policy).await.allowed);
        } else if decision.remaining == 0 {
            pass(range, decision.retry_after / 2).await;
        }
    }
    assert!(refused > 0, "nobody had to wait");
}

async fn policies_and_keys_do_not_touch_each_other(range: &dyn Range) {
    let [here, _] = range.stores();
    let hour = Duration::from_secs(3600);
    // Glued together without care these would be the same.
    for (name, key) in [
        ("x", "k"),
        ("x", "l"),
        ("y", "k"),
        ("x:y", "z"),
        ("x", "y:z"),
        ("x:", "y:z"),
        ("", "x:k"),
        ("", ""),
    ] {
        let policy = policy(name, 1, hour);
        assert!(take(&*here, key, &policy).await.allowed, "{name} {key}");
        assert!(!take(&*here, key, &policy).await.allowed, "{name} {key}");
    }
}

async fn concurrent_takers_get_the_burst_and_what_grew_back(range: &dyn Range) {
    const TAKERS: usize = 40;
    const TRIES: usize = 25;
    let interval = Duration::from_millis(20);
    let policy = policy("crowd", 50, interval * 50);
    let stores = range.stores();
    let before = range.now().await;
    let takers = (0..TAKERS).map(|taker| {
        let (store, policy) = (&stores[taker % 2], &policy);
        async move {
            let mut allowed = 0;
            for _ in 0..TRIES {
                allowed += u128::from(take(&**store, "k", policy).await.allowed);
            }
            allowed
        }
    });
    let allowed: u128 = join_all(takers).await.into_iter().sum();
    let took = range.now().await.duration_since(before).unsigned_abs();
    let grown = took.as_nanos() / interval.as_nanos();
    assert!(
        (50..=50 + grown).contains(&allowed),
        "{allowed} passed, and {grown} grew back"
    );
}

async fn odd_keys_and_policies_break_nothing(range: &dyn Range) {
    let [here, there] = range.stores();
    let minute = Duration::from_secs(60);
    let long = "k".repeat(1 << 20);
    for key in ["", " ", "\0", "a\r\nFLUSHALL\r\n", "{a}", "*", "ä", &long] {
        let policy = policy("odd\r\n{key}", 1, minute);
        assert!(take(&*here, key, &policy).await.allowed);
        assert!(!take(&*there, key, &policy).await.allowed);
    }
    // More than one a microsecond: one a microsecond.
    let huge = policy("huge", u32::MAX, Duration::from_secs(1));
    assert!(take(&*here, "k", &huge).await.allowed);
    let nothing = policy("no-window", 3, Duration::ZERO);
    assert!(take(&*here, "k", &nothing).await.allowed);
    for window in [Duration::MAX, Duration::from_secs(u64::from(u32::MAX))] {
        let endless = policy(&format!("endless {window:?}"), 2, window);
        assert_eq!(take(&*here, "k", &endless).await.remaining, 1);
        assert_eq!(take(&*there, "k", &endless).await.remaining, 0);
        let refused = take(&*here, "k", &endless).await;
        assert!(!refused.allowed && refused.retry_after > Duration::from_secs(365 * 24 * 3600));
    }
    let none = policy("none", 0, minute);
    assert!(!take(&*here, "k", &none).await.allowed);
}

async fn a_policy_that_shrank_lets_nobody_wait_longer_than_it_says(range: &dyn Range) {
    let [here, there] = range.stores();
    let wide = policy("shrank", 2, Duration::from_secs(24 * 3600));
    for _ in 0..3 {
        take(&*here, "k", &wide).await;
    }
    let narrow = policy("shrank", 2, Duration::from_secs(60));
    let refused = take(&*there, "k", &narrow).await;
    assert!(!refused.allowed);
    assert!(refused.retry_after <= Duration::from_secs(30));
}
