//! The client's behaviour while Redis comes, goes and hangs, seen through the store of rate limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use platform::rate_limit::{Policy, RateLimitStore, RedisRateLimitStore};
use platform::redis_client::{RedisClient, RedisConfig};
use platform::test_kit::tcp_proxy::{TcpProxy, authority};
use platform::test_kit::{DEADLINE, eventually, redis_client, redis_config};
use platform::{Error, Kind, Tasks};
use tokio::net::TcpListener;

/// The wait in tests about servers that hang.
const TIMEOUT: Duration = Duration::from_millis(400);

fn policy() -> Policy {
    Policy {
        name: "test".to_owned(),
        quota: 1_000_000,
        window: Duration::from_secs(3600),
    }
}

async fn take(store: &RedisRateLimitStore) -> Result<(), Error> {
    store.take("k", &policy()).await.map(|_| ())
}

/// A store behind a proxy, and the proxy; `None` without a server.
async fn scene(tasks: &Tasks) -> Option<(TcpProxy, RedisConfig)> {
    let config = redis_config()?;
    let proxy = TcpProxy::start(authority(&config.url), tasks).await;
    let config = RedisConfig {
        url: proxy.url(&config.url),
        timeout_ms: u64::try_from(TIMEOUT.as_millis()).unwrap(),
        ..config
    };
    Some((proxy, config))
}

/// A server that accepts and never says a word, and how often it did.
async fn mute(tasks: &Tasks) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tasks.spawn("mute-server", async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            kept.push(stream);
        }
    });
    (address, accepted)
}

#[tokio::test]
async fn a_configuration_with_problems_is_refused() {
    let error = RedisClient::start(&RedisConfig::default(), &Tasks::new()).err();
    assert_eq!(error.unwrap().violations()[0].field, "redis.url");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_says_a_word_costs_nobody_a_wait() {
    let tasks = Tasks::new();
    let (address, accepted) = mute(&tasks).await;
    for scheme in ["redis", "rediss"] {
        let before = accepted.load(Ordering::SeqCst);
        let config = RedisConfig {
            url: format!("{scheme}://{address}"),
            timeout_ms: 10_000,
            ..RedisConfig::default()
        };
        let client = RedisClient::start(&config, &tasks).unwrap();
        let store = RedisRateLimitStore::new(client.clone());
        eventually(DEADLINE, || async {
            accepted.load(Ordering::SeqCst) > before
        })
        .await;
        let start = Instant::now();
        let answers = join_all((0..1000).map(|_| take(&store))).await;
        assert!(start.elapsed() < Duration::from_secs(2));
        for answer in answers {
            let error = answer.unwrap_err();
            assert_eq!(
                (error.kind(), error.reason()),
                (Kind::Unavailable, "redis_unavailable")
            );
        }
        assert!(!client.is_connected());
        assert!(
            accepted.load(Ordering::SeqCst) - before < 4,
            "requests made connections of their own"
        );
    }
    let running = tasks.running();
    let clients = running.iter().filter(|name| *name == "redis-client");
    assert_eq!(clients.count(), 2, "a client gave up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_starts_while_redis_is_away_and_connects_when_it_comes() {
    let tasks = Tasks::new();
    let Some((proxy, config)) = scene(&tasks).await else {
        return;
    };
    proxy.cut();
    let client = RedisClient::start(&config, &tasks).unwrap();
    let store = RedisRateLimitStore::new(client.clone());
    eventually(DEADLINE, || async { proxy.accepted() > 3 }).await;
    assert!(!client.is_connected());
    assert_eq!(take(&store).await.unwrap_err().kind(), Kind::Unavailable);
    proxy.restore();
    client.connected().await;
    take(&store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_comes_back_by_itself_and_nobody_waits_for_it() {
    let tasks = Tasks::new();
    let Some((proxy, config)) = scene(&tasks).await else {
        return;
    };
    let client = redis_client(&config, &tasks).await;
    let store = RedisRateLimitStore::new(client.clone());
    for _ in 0..3 {
        eventually(DEADLINE, || async { take(&store).await.is_ok() }).await;
        proxy.cut();
        // Noticed although nobody asks.
        eventually(DEADLINE, || async { !client.is_connected() }).await;
        let (start, before) = (Instant::now(), proxy.accepted());
        for _ in 0..1000 {
            take(&store).await.unwrap_err();
        }
        assert!(start.elapsed() < Duration::from_secs(2));
        // The one task that tries again, at growing intervals.
        assert!(proxy.accepted() - before < 20, "{}", proxy.accepted());
        proxy.restore();
    }
    eventually(DEADLINE, || async { client.is_connected() }).await;
    take(&store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_those_under_way_one_wait_and_the_others_none() {
    let tasks = Tasks::new();
    let Some((proxy, config)) = scene(&tasks).await else {
        return;
    };
    let client = redis_client(&config, &tasks).await;
    let store = RedisRateLimitStore::new(client.clone());
    eventually(DEADLINE, || async { take(&store).await.is_ok() }).await;
    proxy.black_hole();
    let start = Instant::now();
    let answers = join_all((0..64).map(|_| take(&store))).await;
    let took = start.elapsed();
    assert!(answers.iter().all(Result::is_err));
    assert!(took < TIMEOUT * 3, "{took:?}");
    let start = Instant::now();
    for _ in 0..1000 {
        take(&store).await.unwrap_err();
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    proxy.restore();
    eventually(DEADLINE, || async { take(&store).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_noticed_although_nobody_asks() {
    let tasks = Tasks::new();
    let Some((proxy, config)) = scene(&tasks).await else {
        return;
    };
    let client = redis_client(&config, &tasks).await;
    proxy.black_hole();
    eventually(DEADLINE, || async { !client.is_connected() }).await;
    proxy.restore();
    eventually(DEADLINE, || async { client.is_connected() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_at_shutdown_are_still_answered() {
    let Some(config) = redis_config() else {
        return;
    };
    let tasks = Tasks::new();
    let client = redis_client(&config, &tasks).await;
    let store = RedisRateLimitStore::new(client);
    assert!(tasks.shutdown(DEADLINE).await.is_empty());
    take(&store).await.unwrap();
}
