use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use platform::Tasks;
use platform::rate_limit::{MemoryRateLimitStore, Policy, RateLimitStore, RedisRateLimitStore};
use platform::test_kit::rate_limit_suite::{self, Range};
use platform::test_kit::{DEADLINE, ManualClock, eventually, redis_client, redis_config};

use crate::redis_server::Server;

struct InMemory {
    clock: Arc<ManualClock>,
    store: Arc<MemoryRateLimitStore>,
}

#[async_trait]
impl Range for InMemory {
    fn stores(&self) -> [Arc<dyn RateLimitStore>; 2] {
        [self.store.clone(), self.store.clone()]
    }

    async fn now(&self) -> Timestamp {
        platform::clock::Clock::now(&*self.clock)
    }

    async fn reach(&self, at: Timestamp) {
        let left: SignedDuration = at.duration_since(self.now().await);
        self.clock.advance(left);
    }
}

#[tokio::test]
async fn the_memory_store_keeps_every_promise() {
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let store = Arc::new(MemoryRateLimitStore::new(clock.clone()));
    rate_limit_suite::run(&InMemory { clock, store }).await;
}

struct OnServer {
    server: Server,
    stores: [Arc<dyn RateLimitStore>; 2],
}

#[async_trait]
impl Range for OnServer {
    fn stores(&self) -> [Arc<dyn RateLimitStore>; 2] {
        self.stores.clone()
    }

    async fn now(&self) -> Timestamp {
        self.server.now().await
    }

    async fn reach(&self, at: Timestamp) {
        eventually(DEADLINE, || async { self.now().await >= at }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redis_store_keeps_every_promise() {
    let (Some(server), Some(config)) = (Server::connect().await, redis_config()) else {
        return;
    };
    let tasks = Tasks::new();
    // Two processes.
    let (one, two) = (
        redis_client(&config, &tasks).await,
        redis_client(&config, &tasks).await,
    );
    let stores: [Arc<dyn RateLimitStore>; 2] = [
        Arc::new(RedisRateLimitStore::new(one)),
        Arc::new(RedisRateLimitStore::new(two)),
    ];
    rate_limit_suite::run(&OnServer { server, stores }).await;
}

fn policy(quota: u32, window: Duration) -> Policy {
    Policy {
        name: "test".to_owned(),
        quota,
        window,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_vanishes_when_its_quota_is_full_again() {
    let (Some(server), Some(config)) = (Server::connect().await, redis_config()) else {
        return;
    };
    let client = redis_client(&config, &Tasks::new()).await;
    let store = RedisRateLimitStore::new(client);
    let soon = policy(4, Duration::from_millis(200));
    for key in 0..20 {
        store.take(&key.to_string(), &soon).await.unwrap();
    }
    assert!(server.keys(&config.prefix).await.len() <= 20);
    eventually(DEADLINE, || server.is_empty(&config.prefix)).await;
    // A long key of a client stands there as a short one, and goes within the window.
    let later = policy(2, Duration::from_secs(100));
    for _ in 0..3 {
        store.take(&"k".repeat(100_000), &later).await.unwrap();
    }
    let keys = server.keys(&config.prefix).await;
    assert_eq!(keys.len(), 1);
    assert!(keys[0].len() < 100, "{}", keys[0]);
    let life = server.life_ms(&keys[0]).await;
    assert!((90_000..=100_001).contains(&life), "{life}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_the_script_is_told_again() {
    let (Some(server), Some(config)) = (Server::connect().await, redis_config()) else {
        return;
    };
    let store = RedisRateLimitStore::new(redis_client(&config, &Tasks::new()).await);
    let policy = policy(10, Duration::from_secs(3600));
    for left in (7..10).rev() {
        server.forget_scripts().await;
        let decision = store.take("k", &policy).await.unwrap();
        assert_eq!(decision.remaining, left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_place_of_a_counter_counts_as_nothing() {
    let (Some(server), Some(config)) = (Server::connect().await, redis_config()) else {
        return;
    };
    let store = RedisRateLimitStore::new(redis_client(&config, &Tasks::new()).await);
    let policy = policy(10, Duration::from_secs(3600));
    store.take("k", &policy).await.unwrap();
    let key = server.keys(&config.prefix).await.remove(0);
    let far = i64::MAX.to_string();
    for value in ["", "x", "inf", "nan", "-1", "1e300", "0x10", " 5", &far] {
        server.set(&key, value).await;
        let decision = store.take("k", &policy).await.unwrap();
        assert_eq!(decision.remaining, 9, "{value}");
    }
    // Too far ahead: as if everything had been used up just now.
    server.set(&key, "9007199254740991").await;
    assert!(!store.take("k", &policy).await.unwrap().allowed);
    server.set_list(&key).await;
    assert_eq!(store.take("k", &policy).await.unwrap().remaining, 9);
}
