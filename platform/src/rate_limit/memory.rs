//! Counting within the process.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Decision, Policy, RateLimitStore, decide};
use crate::{Error, SharedClock, time};

/// Shards of the store, so that requests of different keys seldom wait for each other.
const SHARDS: usize = 16;
/// Keys in a shard before those that are full again are dropped.
const SWEEP_AT: usize = 4096;

/// Counts within the process.
pub struct MemoryRateLimitStore {
    clock: SharedClock,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

struct Shard {
    /// By policy and key.
    arrivals: HashMap<(String, String), i64>,
    sweep_at: usize,
}

impl MemoryRateLimitStore {
    /// An empty store.
    pub fn new(clock: SharedClock) -> Self {
        let shard = || {
            Mutex::new(Shard {
                arrivals: HashMap::new(),
                sweep_at: SWEEP_AT,
            })
        };
        let shards = std::iter::repeat_with(shard).take(SHARDS).collect();
        Self {
            clock,
            hasher: RandomState::new(),
            shards,
        }
    }
}

#[async_trait]
impl RateLimitStore for MemoryRateLimitStore {
    async fn take(&self, key: &str, policy: &Policy) -> Result<Decision, Error> {
        let now = time::to_micros(self.clock.now());
        let key = (policy.name.clone(), key.to_owned());
        let place = usize::try_from(self.hasher.hash_one(&key) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (decision, arrival) = decide(policy, shard.arrivals.get(&key).copied(), now);
        shard.arrivals.insert(key, arrival);
        if shard.arrivals.len() >= shard.sweep_at {
            shard.arrivals.retain(|_, arrival| *arrival > now);
            shard.sweep_at = SWEEP_AT.max(shard.arrivals.len() * 2);
        }
        Ok(decision)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::test_kit::ManualClock;

    #[tokio::test]
    async fn keys_that_are_full_again_are_dropped() {
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let store = MemoryRateLimitStore::new(clock.clone());
        let policy = Policy {
            name: "test".to_owned(),
            quota: 1,
            window: Duration::from_secs(1),
        };
        for round in 0..3 {
            for key in 0..SHARDS * SWEEP_AT {
                store
                    .take(&format!("{round}/{key}"), &policy)
                    .await
                    .unwrap();
            }
            clock.advance(SignedDuration::from_secs(2));
        }
        let kept: usize = store
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().arrivals.len())
            .sum();
        assert!(kept <= 2 * SHARDS * SWEEP_AT, "{kept}");
    }
}
