use reqwest::Method;
use serde_json::json;

use crate::harness::{house, house_with, refused};

fn transfer(amount: &str, to: &str, more: &str) -> String {
    format!(r#"{{"to":{to},"amount":{{"amount_minor":{amount},"currency":"INR"}}{more}}}"#)
}

#[tokio::test]
async fn bad_bodies_are_refused_and_the_field_is_named() {
    let house = house().await;
    let to = r#"{"handle":"asha"}"#;
    for (body, field) in [
        (transfer("1.5", to, ""), "amount.amount_minor"),
        (transfer("1e3", to, ""), "amount.amount_minor"),
        (
            transfer("9223372036854775808", to, ""),
            "amount.amount_minor",
        ),
        (
            transfer("-9223372036854775809", to, ""),
            "amount.amount_minor",
        ),
        (transfer("1e999", to, ""), "amount.amount_minor"),
        (transfer("\"5\"", to, ""), "amount.amount_minor"),
        (transfer("null", to, ""), "amount.amount_minor"),
        (transfer("true", to, ""), "amount.amount_minor"),
        (transfer("[5]", to, ""), "amount.amount_minor"),
        (transfer("5", to, r#","extra":1"#), "extra"),
        (transfer("5", to, r#","category":7"#), "category"),
        (
            transfer("5", to, r#","amount":{"amount_minor":6,"currency":"INR"}"#),
            "amount",
        ),
        (transfer("5", "{}", ""), "to"),
        (transfer("5", r#"{"handle":"a","email":"b@c.d"}"#, ""), "to"),
        (transfer("5", r#"{"user_id":"nope"}"#, ""), "to.user_id"),
        (transfer("5", r#"{"phone":"1"}"#, ""), "to.phone"),
        (transfer("5", r#"["asha"]"#, ""), "to"),
        (r#"{"to":{"handle":"asha"}}"#.to_owned(), "amount"),
        (
            r#"{"to":{"handle":"asha"},"amount":[5,"INR"]}"#.to_owned(),
            "amount",
        ),
        ("[]".to_owned(), "body"),
        ("\"text\"".to_owned(), "body"),
        (String::new(), "body"),
        ("{".to_owned(), "body"),
        ("\u{0}".to_owned(), "body"),
        ("[".repeat(50_000), "body"),
    ] {
        let request = house
            .member(Method::POST, "/v1/transfers")
            .header("Idempotency-Key", "k")
            .header("content-type", "application/json")
            .body(body.clone());
        let refusal = refused(request).await;
        let shown: String = body.chars().take(120).collect();
        assert_eq!(
            (refusal.status, refusal.code()),
            (400, "invalid_argument"),
            "{shown}"
        );
        assert!(
            refusal.fields().contains(&field),
            "{shown}: {:?}",
            refusal.fields()
        );
    }
    assert_eq!(house.seen.count("transfer"), 0);
}

#[tokio::test]
async fn every_problem_of_a_body_is_told_at_once() {
    let house = house().await;
    let body = json!({"to": {"handle": 1}, "amount": {"currency": 2}, "note": ""});
    let refusal = refused(house.keyed("/v1/transfers", &body)).await;
    assert_eq!(
        refusal.fields(),
        [
            "amount.currency",
            "amount.amount_minor",
            "note",
            "to.handle"
        ],
        "{}",
        refusal.body
    );
}

#[tokio::test]
async fn an_idempotency_key_is_required_and_checked() {
    let house = house().await;
    let body = json!({"amount": {"amount_minor": 5, "currency": "INR"}});
    let post = || house.member(Method::POST, "/v1/deposits").json(&body);
    let long = "k".repeat(256);
    for request in [
        post(),
        post().header("Idempotency-Key", ""),
        post().header("Idempotency-Key", long),
        post().header("Idempotency-Key", "two words"),
        post().header("Idempotency-Key", "k\u{e4}y"),
        post()
            .header("Idempotency-Key", "a")
            .header("Idempotency-Key", "b"),
    ] {
        let refusal = refused(request).await;
        assert_eq!(
            (refusal.status, refusal.fields()),
            (400, vec!["Idempotency-Key"])
        );
    }
    let response = post()
        .header("Idempotency-Key", "k".repeat(255))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    for path in ["/v1/transfers", "/v1/accounts", "/v1/sms/schedules"] {
        let refusal = refused(house.member(Method::POST, path).json(&json!({}))).await;
        assert_eq!(refusal.fields(), ["Idempotency-Key"], "{path}");
    }
}

#[tokio::test]
async fn only_json_is_read_as_json() {
    let house = house().await;
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        let request = house
            .request(Method::POST, "/v1/auth/logout")
            .header("content-type", content_type)
            .body(r#"{"refresh_token":"r"}"#);
        let refusal = refused(request).await;
        assert_eq!(
            (refusal.status, refusal.code()),
            (415, "unsupported_media_type")
        );
    }
    let response = house
        .request(Method::POST, "/v1/auth/logout")
        .header("content-type", "Application/JSON; charset=utf-8")
        .body(r#"{"refresh_token":"r"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 204);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_and_without_a_length() {
    let house = house_with(|config| config.body_limit_bytes = 1_000).await;
    let body = format!(r#"{{"refresh_token":"{}"}}"#, "r".repeat(2_000));
    let post = || {
        house
            .request(Method::POST, "/v1/auth/logout")
            .header("content-type", "application/json")
    };
    let refusal = refused(post().body(body.clone())).await;
    assert_eq!((refusal.status, refusal.code()), (413, "payload_too_large"));
    let pieces = futures::stream::iter(
        body.into_bytes()
            .chunks(100)
            .map(<[u8]>::to_vec)
            .map(Ok::<_, std::io::Error>)
            .collect::<Vec<_>>(),
    );
    let refusal = refused(post().body(reqwest::Body::wrap_stream(pieces))).await;
    assert_eq!((refusal.status, refusal.code()), (413, "payload_too_large"));
    assert_eq!(house.seen.count("logout"), 0);
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let house = house_with(|config| config.body_timeout_ms = 50).await;
    let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = house
        .request(Method::POST, "/v1/auth/logout")
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(never));
    let refusal = refused(request).await;
    assert_eq!((refusal.status, refusal.code()), (408, "request_timeout"));
}

#[tokio::test]
async fn query_parameters_are_strict() {
    let house = house().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=99999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("lim%69t=1&limit=2", "limit"),
        ("unknown=1", "unknown"),
        ("from=yesterday", "from"),
        ("account_id=1", "account_id"),
    ] {
        let refusal =
            refused(house.member(Method::GET, &format!("/v1/transactions?{query}"))).await;
        assert_eq!(
            (refusal.status, refusal.fields()),
            (400, vec![field]),
            "{query}"
        );
    }
    let good = "/v1/transactions?limit=5&direction=in&from=2026-01-01T00:00:00%2B05:30&cursor=c";
    let response = house.member(Method::GET, good).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let page: serde_json::Value = response.json().await.unwrap();
    assert_eq!(page["next_cursor"], "next");
    assert_eq!(page["data"][0]["created_at"], "2023-11-14T22:13:20.5Z");
    let seen = house.seen.listings.lock().unwrap()[0].clone();
    assert_eq!(
        (seen.limit, seen.direction.as_str(), seen.cursor.as_str()),
        (5, "in", "c")
    );
    assert_eq!(seen.from.unwrap().seconds, 1_767_205_800);
}

#[tokio::test]
async fn an_id_that_is_none_is_named() {
    let house = house().await;
    for id in [
        "x",
        "019a9d6e7c1b7f6e8a550f6c3d0f7f10",
        "%00",
        "..%2f..%2fetc",
    ] {
        let refusal = refused(house.member(Method::GET, &format!("/v1/transactions/{id}"))).await;
        assert_eq!(
            (refusal.status, refusal.fields()),
            (400, vec!["id"]),
            "{id}"
        );
    }
    let unknown = format!("/v1/transactions/{}", house.user);
    assert_eq!(
        refused(house.member(Method::GET, &unknown)).await.code(),
        "not_found"
    );
}
