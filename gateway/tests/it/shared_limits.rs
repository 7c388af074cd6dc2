//! Gateways that share their counters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gateway::GatewayConfig;
use platform::Tasks;
use platform::rate_limit::{RateLimitStore, RedisRateLimitStore};
use platform::test_kit::{redis_client, redis_config};

use crate::harness::house_with_limits;

const QUOTA: u32 = 60;
/// In which one request grows back.
const INTERVAL: Duration = Duration::from_millis(100);
const CALLERS: usize = 16;
const TRIES: usize = 30;

fn limited(config: &mut GatewayConfig) {
    config.rate_limit.enabled = true;
    config.rate_limit.user.quota = QUOTA;
    config.rate_limit.user.window_seconds = (INTERVAL * QUOTA).as_secs().try_into().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_let_in_as_many_as_one() {
    let Some(config) = redis_config() else {
        return;
    };
    let tasks = Tasks::new();
    let store = || async {
        let client = redis_client(&config, &tasks).await;
        Arc::new(RedisRateLimitStore::new(client)) as Arc<dyn RateLimitStore>
    };
    let house = house_with_limits(store().await, limited).await;
    let other = house.another_gateway(store().await, limited).await;

    let start = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let address = [house.address, other][caller % 2];
        let (http, token) = (house.http.clone(), house.token.clone());
        async move {
            let mut passed = 0;
            for _ in 0..TRIES {
                let request = http.get(format!("http://{address}/v1/me"));
                let response = request.bearer_auth(&token).send().await.unwrap();
                match response.status().as_u16() {
                    200 => passed += 1,
                    429 => assert!(response.headers().contains_key("retry-after")),
                    other => panic!("{other}"),
                }
            }
            passed
        }
    });
    let passed: Vec<u128> = join_all(callers).await;
    let grown = start.elapsed().as_nanos() / INTERVAL.as_nanos();
    let total: u128 = passed.iter().sum();
    assert!(
        (u128::from(QUOTA)..=u128::from(QUOTA) + grown).contains(&total),
        "{total} passed, and {grown} grew back"
    );
    // Both let some in.
    for gateway in 0..2 {
        assert!(passed.iter().skip(gateway).step_by(2).sum::<u128>() > 0);
    }
}
