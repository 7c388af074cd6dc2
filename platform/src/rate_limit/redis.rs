//! Counting in Redis, for all who share the server.

use async_trait::async_trait;
use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind};
use sha2::{Digest, Sha256};

use super::{Decision, Policy, RateLimitStore, decide};
use crate::Error;
use crate::redis_client::{RedisClient, unavailable};

/// One script, so that reading and writing are one step; one key, so that it may run on any node of a cluster.
const TAKE: &str = include_str!("take.lua");
/// Bytes of the hash that stand for a key.
const HASH_LENGTH: usize = 16;

/// Counts in Redis, by the clock of Redis.
///
/// Keys are hashed: they are of one length whatever a client sends, and addresses do not stand in Redis.
pub struct RedisRateLimitStore {
    client: RedisClient,
    script: Script,
    keys: String,
}

impl RedisRateLimitStore {
    /// A store for everybody who uses the same server and prefix.
    pub fn new(client: RedisClient) -> Self {
        Self {
            keys: client.key("rate"),
            script: Script::new(TAKE),
            client,
        }
    }

    fn key(&self, key: &str, policy: &Policy) -> String {
        let mut hash = Sha256::new();
        hash.update((policy.name.len() as u64).to_be_bytes());
        hash.update(policy.name.as_bytes());
        hash.update(key.as_bytes());
        let hash = hash.finalize();
        format!("{}{}", self.keys, hex::encode(&hash[..HASH_LENGTH]))
    }

    /// Takes one request at `now`, in microseconds; `None` leaves the time to Redis. Returns the time and what was kept
    /// before.
    async fn run(&self, key: &str, policy: &Policy, now: Option<i64>) -> RedisResult<(i64, i64)> {
        let command = |name: &str, script: &str| {
            let mut command = Cmd::new();
            command
                .arg(name)
                .arg(script)
                .arg(1)
                .arg(key)
                .arg(policy.interval())
                .arg(policy.burst())
                .arg(now);
            command
        };
        let by_hash = command("EVALSHA", self.script.get_hash());
        match self.client.query(&by_hash).await {
            // Redis was started anew: it keeps what it runs once.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.client.query(&command("EVAL", TAKE)).await
            }
            answer => answer,
        }
    }
}

#[async_trait]
impl RateLimitStore for RedisRateLimitStore {
    async fn take(&self, key: &str, policy: &Policy) -> Result<Decision, Error> {
        let key = self.key(key, policy);
        let answer = self.run(&key, policy, None).await;
        let (now, kept) = answer.map_err(|error| unavailable(&error))?;
        Ok(decide(policy, Some(kept), now).0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;
    use crate::Tasks;
    use crate::test_kit::{redis_client, redis_config};

    /// Microseconds since 1970, in the year 2100.
    const LATE: i64 = 4_102_444_800_000_000;
    const HOUR: u64 = 3600;

    /// Long windows, so that no key vanishes by the real clock while the test moves its own.
    fn policies() -> impl Strategy<Value = Policy> {
        let quota = prop_oneof![4 => 1_u32..20, 1 => 0_u32..2, 1 => 1_u32..1_000_000];
        let window = prop_oneof![
            (HOUR..100 * HOUR).prop_map(Duration::from_secs),
            (HOUR..u64::MAX).prop_map(Duration::from_secs),
            (0..u32::MAX).prop_map(|odd| Duration::new(50 * HOUR, odd % 1_000_000_000)),
        ];
        (quota, window).prop_map(|(quota, window)| Policy {
            name: "model".to_owned(),
            quota,
            window,
        })
    }

    /// Times, as thousandths of the time in which one request grows back; the clock may be set back.
    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            2 => Just(0_i64),
            5 => 0_i64..1500,
            1 => 0_i64..30_000,
            1 => -5_000_i64..0,
        ];
        proptest::collection::vec(step, 1..40)
    }

    #[test]
    fn redis_decides_as_the_model_does() {
        let Some(config) = redis_config() else {
            return;
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = runtime.block_on(redis_client(&config, &Tasks::new()));
        let store = RedisRateLimitStore::new(client);
        let cases = (policies(), steps(), prop_oneof![Just(1_i64), Just(LATE)]);
        let unsaved = Config {
            failure_persistence: None,
            ..Config::default()
        };
        let number = Cell::new(0);
        let outcome = TestRunner::new(unsaved).run(&cases, |(policy, steps, start)| {
            number.set(number.get() + 1);
            let key = store.key(&format!("case {}", number.get()), &policy);
            let (mut now, mut model) = (start, None);
            for step in steps {
                now += step.saturating_mul(policy.interval() / 1000);
                now = now.clamp(1, 2 * LATE);
                let answer = runtime.block_on(store.run(&key, &policy, Some(now)));
                let (time, kept) = answer.map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(time, now);
                let (decision, keep) = decide(&policy, model, now);
                prop_assert_eq!(decide(&policy, Some(kept), time).0, decision);
                model = Some(keep);
            }
            Ok(())
        });
        outcome.unwrap();
    }
}
