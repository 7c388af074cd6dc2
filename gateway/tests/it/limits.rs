use reqwest::Method;
use serde_json::json;

use crate::harness::{House, house_with, refused};

async fn limited() -> House {
    house_with(|config| {
        config.rate_limit.enabled = true;
        config.rate_limit.anonymous.quota = 3;
        config.rate_limit.user.quota = 5;
        config.trusted_proxies = vec!["127.0.0.0/8".into()];
    })
    .await
}

#[tokio::test]
async fn a_user_is_told_where_the_quota_stands() {
    let house = limited().await;
    let response = house.member(Method::GET, "/v1/me").send().await.unwrap();
    assert_eq!(response.headers()["ratelimit-policy"], "\"user\";q=5;w=60");
    assert_eq!(response.headers()["ratelimit"], "\"user\";r=4;t=12");
    for _ in 0..4 {
        assert_eq!(
            house
                .member(Method::GET, "/v1/me")
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    let refusal = refused(house.member(Method::GET, "/v1/me")).await;
    assert_eq!((refusal.status, refusal.code()), (429, "rate_limited"));
    assert!(
        refusal.body["type"]
            .as_str()
            .unwrap()
            .ends_with("#quota-exceeded")
    );
    assert_eq!(refusal.body["violated-policies"], json!(["user"]));
    let wait: u64 = refusal.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    assert!(
        refusal.headers["ratelimit"]
            .to_str()
            .unwrap()
            .starts_with("\"user\";r=0;t=")
    );
    // Another user has a quota of their own.
    let other = house
        .issuer
        .sign(&house.platform.claims(uuid::Uuid::from_u128(5)));
    let response = house.get("/v1/me").bearer_auth(other).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn sign_ins_are_counted_by_address_whatever_else_is_sent() {
    let house = limited().await;
    let body = json!({"email": "a@b.c", "password": "p"});
    let login = |from: &str| {
        house
            .member(Method::POST, "/v1/auth/login")
            .header("x-forwarded-for", format!("198.51.100.7, {from}"))
            .json(&body)
    };
    for _ in 0..3 {
        assert_eq!(login("203.0.113.1").send().await.unwrap().status(), 200);
    }
    let refusal = refused(login("203.0.113.1")).await;
    assert_eq!(
        (
            refusal.status,
            refusal.body["violated-policies"][0].as_str()
        ),
        (429, Some("anonymous"))
    );
    assert_eq!(login("203.0.113.2").send().await.unwrap().status(), 200);
    // One household of IPv6.
    for host in 1..=3 {
        assert_eq!(
            login(&format!("2001:db8::{host}"))
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    assert_eq!(login("2001:db8::ffff").send().await.unwrap().status(), 429);
    assert_eq!(login("2001:db8:0:1::1").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn guessed_tokens_are_counted_by_address() {
    let house = limited().await;
    for _ in 0..3 {
        assert_eq!(
            refused(house.get("/v1/me").bearer_auth("guess"))
                .await
                .status,
            401
        );
    }
    assert_eq!(
        refused(house.get("/v1/me").bearer_auth("guess"))
            .await
            .status,
        429
    );
    assert_eq!(
        house
            .member(Method::GET, "/v1/me")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn what_watches_and_explains_is_not_counted() {
    let house = limited().await;
    for path in [
        "/health/live",
        "/health/ready",
        "/openapi.json",
        "/docs",
        "/.well-known/jwks.json",
    ] {
        for _ in 0..5 {
            let response = house.get(path).send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert!(!response.headers().contains_key("ratelimit"), "{path}");
        }
    }
}

#[tokio::test]
async fn limits_can_be_switched_off() {
    let house = crate::harness::house().await;
    for _ in 0..120 {
        assert_eq!(refused(house.get("/v1/me")).await.status, 401);
    }
}
