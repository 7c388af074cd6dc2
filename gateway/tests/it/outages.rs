//! What the gateway lets in while the store of rate limits is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gateway::GatewayConfig;
use platform::rate_limit::{
    Decision, MemoryRateLimitStore, Policy, RateLimitStore, RedisRateLimitStore,
};
use platform::redis_client::{RedisClient, RedisConfig};
use platform::test_kit::eventually;
use platform::{Error, Tasks};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tracing::{Level, Metadata, Subscriber, span};

use crate::harness::{House, SOON, house_with_limits, refused};

/// How often the anonymous, users and sockets may come.
const QUOTA: u32 = 4;
/// Wait for Redis in these tests.
const TIMEOUT: Duration = Duration::from_millis(100);

/// A store that is there or away, as the test says.
struct Moody {
    store: MemoryRateLimitStore,
    is_away: AtomicBool,
}

impl Moody {
    fn away() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryRateLimitStore::new(platform::clock::SystemClock::shared()),
            is_away: AtomicBool::new(true),
        })
    }
}

#[async_trait]
impl RateLimitStore for Moody {
    async fn take(&self, key: &str, policy: &Policy) -> Result<Decision, Error> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::unavailable("redis_unavailable", "gone"));
        }
        self.store.take(key, policy).await
    }
}

fn limited(config: &mut GatewayConfig) {
    config.rate_limit.enabled = true;
    config.rate_limit.anonymous.quota = QUOTA;
    config.rate_limit.user.quota = QUOTA;
    config.rate_limit.stream.quota = QUOTA;
}

async fn code(response: reqwest::Response) -> Option<String> {
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).ok()?;
    Some(body["code"].as_str()?.to_owned())
}

/// Everybody gets what the class of the route says. `house` has a store that is away.
async fn classes_hold(house: &House) {
    // Reads: open, and nobody is told of a quota.
    for _ in 0..QUOTA * 3 {
        let response = house.member(Method::GET, "/v1/me").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("ratelimit"));
    }

    // Money and other changes: closed, and nothing is done.
    let transfer = json!({"to": "asha", "amount": {"amount_minor": 1, "currency": "INR"}});
    let deposit = json!({"amount": {"amount_minor": 1, "currency": "INR"}});
    for request in [
        house.keyed("/v1/transfers", &transfer),
        house.keyed("/v1/deposits", &deposit),
        house
            .member(Method::PATCH, "/v1/me")
            .json(&json!({"first_name": "A"})),
    ] {
        let refusal = refused(request).await;
        assert_eq!(
            (refusal.status, refusal.code()),
            (503, "rate_limit_unavailable")
        );
        assert_eq!(refusal.headers["retry-after"], "1");
    }
    for call in ["transfer", "deposit", "update_profile"] {
        assert_eq!(house.seen.count(call), 0, "{call}");
    }

    // Signing in: counted here.
    let body = json!({"email": "a@b.c", "password": "p"});
    let login = || {
        house
            .request(Method::POST, "/v1/auth/login")
            .json(&body)
            .send()
    };
    for left in (0..QUOTA).rev() {
        let response = login().await.unwrap();
        assert_eq!(response.status(), 200);
        let told = response.headers()["ratelimit"].to_str().unwrap();
        assert!(
            told.starts_with(&format!("\"anonymous\";r={left};")),
            "{told}"
        );
    }
    assert_eq!(login().await.unwrap().status(), 429);
    // Guessing tokens is guessing too.
    let guess = house.get("/v1/me").bearer_auth("guess");
    assert_eq!(refused(guess).await.status, 429);

    // Looking for people and ending one's sessions: counted here.
    for _ in 0..QUOTA {
        let search = house.member(Method::GET, "/v1/users/search?q=asha");
        assert_eq!(search.send().await.unwrap().status(), 200);
    }
    for request in [
        house.member(Method::GET, "/v1/users/search?q=asha"),
        house.member(Method::POST, "/v1/auth/logout-all"),
    ] {
        assert_eq!(refused(request).await.status, 429);
    }

    // Sockets: counted here.
    for _ in 0..QUOTA {
        assert_eq!(house.hello(None).await.hear().await["type"], "ready");
    }
    assert_eq!(refused(house.get("/v1/stream")).await.status, 429);

    // Redis is no reason to take the gateway out of service.
    let ready = house.get("/health/ready").send().await.unwrap();
    assert_eq!(ready.status(), 200);
    assert_eq!(ready.json::<Value>().await.unwrap()["status"], "ready");
}

#[tokio::test]
async fn while_the_store_is_away_each_class_has_its_rule() {
    let house = house_with_limits(Moody::away(), limited).await;
    classes_hold(&house).await;
}

#[tokio::test]
async fn every_documented_operation_has_the_right_class() {
    let house = house_with_limits(Moody::away(), |config| {
        limited(config);
        config.rate_limit.anonymous.quota = 1000;
        config.rate_limit.user.quota = 1000;
    })
    .await;
    // What changes something and is let through all the same.
    let local = ["/v1/auth/logout-all", "/v1/auth/email/verify/resend"];
    let document = serde_json::to_value(gateway::openapi()).unwrap();
    let (mut closed, mut others) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let is_member = operation.get("security").is_some();
            let method: Method = method.to_uppercase().parse().unwrap();
            let is_closed = is_member && !method.is_safe() && !local.contains(&path.as_str());
            let url = path.replace("{id}", &house.user.to_string());
            let response = house.member(method.clone(), &url).send().await.unwrap();
            let is_refused = response.status() == StatusCode::SERVICE_UNAVAILABLE
                && code(response).await.as_deref() == Some("rate_limit_unavailable");
            assert_eq!(is_refused, is_closed, "{method} {path}");
            *if is_closed { &mut closed } else { &mut others } += 1;
        }
    }
    assert!(closed > 10 && others > 20, "{closed} {others}");
}

/// A Redis that greets its clients and then never says a word.
async fn hanging_redis(tasks: &Tasks) -> (RedisConfig, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = RedisConfig {
        url: format!("redis://{}", listener.local_addr().unwrap()),
        timeout_ms: u64::try_from(TIMEOUT.as_millis()).unwrap(),
        ..RedisConfig::default()
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, own) = (asked.clone(), tasks.clone());
    tasks.spawn("hanging-redis", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            own.spawn("hanging-redis-connection", async move {
                let mut buffer = [0; 4096];
                // HELLO with two CLIENT SETINFO, then PING, each in one packet.
                for greeting in ["%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n", "+PONG\r\n"] {
                    if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
                        return;
                    }
                    stream.write_all(greeting.as_bytes()).await.unwrap();
                }
                while matches!(stream.read(&mut buffer).await, Ok(1..)) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    (config, asked)
}

#[tokio::test]
async fn a_store_that_hangs_counts_as_away_after_its_time() {
    let tasks = Tasks::new();
    let (config, asked) = hanging_redis(&tasks).await;
    let client = RedisClient::start(&config, &tasks).unwrap();
    tokio::time::timeout(SOON, client.connected())
        .await
        .unwrap();
    let house = house_with_limits(Arc::new(RedisRateLimitStore::new(client)), limited).await;
    let start = Instant::now();
    classes_hold(&house).await;
    assert!(start.elapsed() < SOON, "requests waited for Redis");
    assert!(
        asked.load(Ordering::SeqCst) > 0,
        "Redis was not asked at all"
    );
}

#[tokio::test]
async fn a_gateway_starts_while_redis_is_away() {
    let tasks = Tasks::new();
    let config = RedisConfig {
        url: "redis://127.0.0.1:1".to_owned(),
        ..RedisConfig::default()
    };
    let client = RedisClient::start(&config, &tasks).unwrap();
    let house = house_with_limits(Arc::new(RedisRateLimitStore::new(client)), limited).await;
    classes_hold(&house).await;
}

/// Counts the lines of the gateway that an operator reads.
#[derive(Default)]
struct Lines {
    outages: Arc<AtomicUsize>,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("gateway::edge::limits")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.outages.fetch_add(1, Ordering::SeqCst);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn an_outage_is_told_once_and_its_end_once() {
    let lines = Lines::default();
    let told = lines.outages.clone();
    // The runtime of this test has this one thread.
    let _guard = tracing::subscriber::set_default(lines);
    let store = Moody::away();
    let house = house_with_limits(store.clone(), |config| {
        limited(config);
        config.rate_limit.user.quota = 100_000;
    })
    .await;
    for _ in 0..50 {
        let read = house.member(Method::GET, "/v1/me");
        assert_eq!(read.send().await.unwrap().status(), 200);
        let change = refused(house.keyed("/v1/deposits", &json!({}))).await;
        assert_eq!(change.status, 503);
    }
    assert_eq!(told.load(Ordering::SeqCst), 1);
    store.is_away.store(false, Ordering::SeqCst);
    eventually(SOON, || async {
        let read = house.member(Method::GET, "/v1/me");
        assert_eq!(read.send().await.unwrap().status(), 200);
        told.load(Ordering::SeqCst) == 2
    })
    .await;
    for _ in 0..50 {
        let read = house.member(Method::GET, "/v1/me");
        assert_eq!(read.send().await.unwrap().status(), 200);
    }
    assert_eq!(told.load(Ordering::SeqCst), 2);
}
