use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use platform::test_kit::{Issuer, eventually};
use reqwest::Method;
use serde_json::json;

use crate::harness::{SOON, house, house_with_manual_clock, refused};

#[tokio::test]
async fn a_member_route_needs_a_token() {
    let house = house().await;
    let refusal = refused(house.get("/v1/me")).await;
    assert_eq!((refusal.status, refusal.code()), (401, "token_missing"));
    assert_eq!(
        refusal.headers["www-authenticate"],
        "Bearer realm=\"coffer\""
    );
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "bearer",
        &house.token,
    ] {
        let refusal = refused(house.get("/v1/me").header("authorization", value)).await;
        assert_eq!(
            (refusal.status, refusal.code()),
            (401, "token_missing"),
            "{value}"
        );
    }
    let twice = house
        .member(Method::GET, "/v1/me")
        .header("authorization", "Bearer x");
    assert_eq!(refused(twice).await.status, 401);
    assert_eq!(house.seen.count("get_profile"), 0);
}

#[tokio::test]
async fn forged_tokens_open_nothing() {
    let house = house().await;
    let claims = house.claims();
    let stranger = Issuer::new().sign(&claims);
    let mut parts: Vec<&str> = house.token.split('.').collect();
    // {"alg":"none","typ":"at+jwt"}
    parts[0] = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0";
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    let swapped = parts.join(".");
    let other_audience = house.issuer.sign(&platform::token::Claims {
        aud: "other".into(),
        ..claims
    });
    let keys = house.platform.handles().keys;
    let of_a_service = keys
        .service_tokens()
        .issue("wallet-service", Timestamp::now())
        .to_string();
    let broken = format!("{}x", house.token);
    let long = "x".repeat(20_000);
    for token in [
        &stranger,
        &unsigned,
        &swapped,
        &other_audience,
        &of_a_service,
        &broken,
        &long,
        "a.b.c",
    ] {
        let refusal = refused(house.get("/v1/me").bearer_auth(token)).await;
        assert_eq!(
            (refusal.status, refusal.code()),
            (401, "token_invalid"),
            "{token:.60}"
        );
        let challenge = refusal.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("error=\"invalid_token\""));
    }
    assert_eq!(house.seen.count("get_profile"), 0);
}

#[tokio::test]
async fn an_expired_token_is_told_apart() {
    let house = house().await;
    let mut claims = house.claims();
    claims.iat -= 10_000;
    claims.exp -= 10_000;
    let expired = house.issuer.sign(&claims);
    let refusal = refused(house.get("/v1/me").bearer_auth(&expired)).await;
    assert_eq!((refusal.status, refusal.code()), (401, "token_expired"));
}

#[tokio::test]
async fn a_revoked_session_is_out_within_a_second() {
    let house = house().await;
    let claims = house.claims();
    let token = house.issuer.sign(&claims);
    let ask = || house.get("/v1/me").bearer_auth(&token);
    assert_eq!(ask().send().await.unwrap().status(), 200);
    house.identity.revoke(
        claims.sid,
        Timestamp::now() + SignedDuration::from_secs(900),
    );
    eventually(Duration::from_secs(1), || async {
        ask().send().await.unwrap().status() == 401
    })
    .await;
    assert_eq!(refused(ask()).await.code(), "token_revoked");
}

#[tokio::test]
async fn without_news_of_revocations_reads_go_on_and_money_waits() {
    let house = house().await;
    house.identity.set_silent(true);
    let body = json!({"amount": {"amount_minor": 5, "currency": "INR"}});
    eventually(SOON, || async {
        house
            .keyed("/v1/deposits", &body)
            .send()
            .await
            .unwrap()
            .status()
            == 503
    })
    .await;
    let refusal = refused(house.keyed("/v1/deposits", &body)).await;
    assert_eq!(refusal.code(), "revocation_state_unknown");
    assert!(refusal.headers.contains_key("retry-after"));
    assert_eq!(
        house
            .member(Method::GET, "/v1/me")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let mut socket = house.hello(None).await;
    assert_eq!(
        socket.hear().await,
        json!({"type": "error", "code": "revocation_state_unknown"})
    );
    assert_eq!(socket.close_code().await, 1013);

    house.identity.set_silent(false);
    eventually(SOON, || async {
        house
            .keyed("/v1/deposits", &body)
            .send()
            .await
            .unwrap()
            .status()
            == 201
    })
    .await;
}

#[tokio::test]
async fn answers_carry_ids_and_security_headers() {
    let house = house().await;
    let response = house
        .get("/v1/me")
        .header("x-request-id", "my-id.1")
        .send()
        .await
        .unwrap();
    let headers = response.headers();
    assert_eq!(headers["x-request-id"], "my-id.1");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["x-frame-options"], "DENY");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert!(
        headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("default-src 'none'")
    );
    assert!(!headers.contains_key("strict-transport-security"));
    assert!(!headers.contains_key("server"));
    let evil = house
        .get("/v1/me")
        .header("x-request-id", "a b")
        .send()
        .await
        .unwrap();
    assert_eq!(evil.headers()["x-request-id"].len(), 36);
    let secure = crate::harness::house_with(|config| config.https_only = true).await;
    let response = secure.get("/health/live").send().await.unwrap();
    assert!(response.headers().contains_key("strict-transport-security"));
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let house = house().await;
    for path in [
        "/",
        "/v1",
        "/v1/nope",
        "/v1/me/",
        "//v1/me",
        "/v1/../v1/me",
        "/V1/me",
    ] {
        let refusal = refused(house.get(path)).await;
        // The client itself resolves dots.
        let expected = if path == "/v1/../v1/me" { 401 } else { 404 };
        assert_eq!(refusal.status, expected, "{path}");
    }
    let refusal = refused(house.request(Method::DELETE, "/v1/auth/login")).await;
    assert_eq!(
        (refusal.status, refusal.code()),
        (405, "method_not_allowed")
    );
    assert_eq!(refusal.headers["allow"], "POST");
}

#[tokio::test]
async fn only_listed_origins_may_call_from_browsers() {
    let house = crate::harness::house_with(|config| {
        config.cors_allowed_origins = vec!["https://app.example.org".into()];
    })
    .await;
    let preflight = |origin: &'static str| {
        house
            .request(Method::OPTIONS, "/v1/transfers")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,idempotency-key",
            )
    };
    let allowed = preflight("https://app.example.org").send().await.unwrap();
    assert_eq!(
        allowed.headers()["access-control-allow-origin"],
        "https://app.example.org"
    );
    let other = preflight("https://evil.example").send().await.unwrap();
    assert!(!other.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_trace_goes_through_to_the_services_and_back() {
    platform::telemetry::init_with_exporter("gateway-tests");
    let house = house().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let response = house
        .member(Method::GET, "/v1/me")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .send()
        .await
        .unwrap();
    assert!(
        response.headers()["traceresponse"]
            .to_str()
            .unwrap()
            .contains(trace)
    );
    let traces = house.seen.traces.lock().unwrap().clone();
    assert!(traces.iter().any(|one| one.contains(trace)), "{traces:?}");

    for bad in [
        "",
        "00-0-0-0",
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    ] {
        let response = house
            .member(Method::GET, "/v1/me")
            .header("traceparent", bad)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{bad}");
    }
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let house = crate::harness::house_with(|config| config.header_timeout_ms = 100).await;
    for first in [
        "",
        "GET /health/live HT",
        "GET /health/live HTTP/1.1\r\nHost: x\r\n",
        "PRI * HTT",
    ] {
        let mut stream = tokio::net::TcpStream::connect(house.address).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{first:?} was kept open");
    }
}

#[tokio::test]
async fn more_at_once_than_we_take_is_refused_and_health_is_not() {
    let house = crate::harness::house_with(|config| config.max_concurrent_requests = 1).await;
    *house.seen.delay.lock().unwrap() = Duration::from_secs(5);
    let house = Arc::new(house);
    let slow = house.member(Method::GET, "/v1/me");
    let slow = tokio::time::timeout(SOON, slow.send());
    let rest = async {
        eventually(SOON, || async { house.seen.count("get_profile") == 1 }).await;
        let refusal = refused(house.get("/v1/me")).await;
        assert_eq!((refusal.status, refusal.code()), (503, "overloaded"));
        assert_eq!(refusal.headers["retry-after"], "1");
        assert!(
            refusal.body["type"]
                .as_str()
                .unwrap()
                .ends_with("temporary-reduced-capacity")
        );
        assert_eq!(
            house.get("/health/live").send().await.unwrap().status(),
            200
        );
    };
    tokio::select! {
        _ = slow => panic!("the slow request was not slow"),
        () = rest => {}
    }
}

#[tokio::test]
async fn a_token_that_expires_ends_its_socket() {
    let house = house_with_manual_clock().await;
    let mut socket = house.hello(None).await;
    assert_eq!(socket.hear().await["type"], "ready");
    let mut claims = house.claims();
    claims.exp += 600;
    // Another session's token does not prolong this one.
    let other = house.issuer.sign(&claims);
    let mut second = house.hello(None).await;
    assert_eq!(second.hear().await["type"], "ready");
    second.say(&json!({"type": "token", "token": other})).await;
    assert_eq!(second.close_code().await, 4401);

    house
        .platform
        .manual_clock()
        .advance(SignedDuration::from_secs(901));
    assert_eq!(
        socket.hear().await,
        json!({"type": "error", "code": "token_expired"})
    );
    assert_eq!(socket.close_code().await, 4401);
}

#[tokio::test]
async fn a_newer_token_keeps_a_socket_open() {
    let house = house_with_manual_clock().await;
    let mut claims = house.claims();
    let first = house.issuer.sign(&claims);
    let mut socket = house.socket().await;
    socket.say(&json!({"type": "hello", "token": first})).await;
    assert_eq!(socket.hear().await["type"], "ready");
    claims.exp += 600;
    socket
        .say(&json!({"type": "token", "token": house.issuer.sign(&claims)}))
        .await;
    // What comes after the token has been read after it.
    socket.say(&json!({"type": "ack", "seq": 0})).await;
    house.notify.head.send_replace(1);
    assert_eq!(socket.hear_events(1).await, [1]);
    socket.say(&json!({"type": "ack", "seq": 1})).await;
    eventually(SOON, || async {
        !house.seen.acknowledged.lock().unwrap().is_empty()
    })
    .await;
    house
        .platform
        .manual_clock()
        .advance(SignedDuration::from_secs(901));
    house.notify.head.send_replace(2);
    assert_eq!(socket.hear_events(1).await, [2]);
    house
        .platform
        .manual_clock()
        .advance(SignedDuration::from_secs(600));
    assert_eq!(socket.close_code().await, 4401);
}
