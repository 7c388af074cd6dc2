//! What the public door says to input that is wrong: the right status, and a problem that names the field.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use launcher::client::{ApiError, Problem, Session};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::common::people::{arrive, arrive_with, key};
use crate::common::{PATIENCE, eventually};
use crate::support::product::Product;

const PLENTY_MINOR: i64 = 1_000_000;

async fn refused(session: &Session, request: RequestBuilder) -> Problem {
    match session.api().send(request).await {
        Err(ApiError::Refused(problem)) => *problem,
        other => panic!("expected a problem, got {other:?}"),
    }
}

fn expect(problem: &Problem, status: u16, code: &str, field: &str) {
    assert_eq!(problem.status.as_u16(), status, "{problem}");
    assert_eq!(problem.code, code, "{problem}");
    if !field.is_empty() {
        assert!(problem.names(field), "{problem} does not name {field}");
    }
    assert_eq!(
        problem.body["status"], status,
        "the status stands in the body too"
    );
    assert!(
        problem.body["title"].is_string(),
        "{} has no title",
        problem.body
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_fields_of_money_are_named() {
    let product = Product::start().await;
    let asha = arrive_with(&product.api(), &mut product.mailbox(), "Asha", PLENTY_MINOR).await;
    let to = json!({ "handle": asha.user().handle });
    let inr = |minor: Value| json!({ "amount_minor": minor, "currency": "INR" });
    let cases = [
        (
            "/v1/deposits",
            json!({ "amount": inr(json!("12")) }),
            "amount.amount_minor",
        ),
        (
            "/v1/deposits",
            json!({ "amount": inr(json!(12.5)) }),
            "amount.amount_minor",
        ),
        (
            "/v1/deposits",
            json!({ "amount": inr(json!(-1)) }),
            "amount.amount_minor",
        ),
        (
            "/v1/deposits",
            json!({ "amount": inr(json!(0)) }),
            "amount.amount_minor",
        ),
        (
            "/v1/deposits",
            json!({ "amount": inr(json!(1e30)) }),
            "amount.amount_minor",
        ),
        (
            "/v1/deposits",
            json!({ "amount": inr(json!(u64::MAX)) }),
            "amount.amount_minor",
        ),
        (
            "/v1/deposits",
            json!({ "amount": { "amount_minor": 1 } }),
            "amount.currency",
        ),
        ("/v1/deposits", json!({ "amount": 12 }), "amount"),
        ("/v1/deposits", json!({}), "amount"),
        (
            "/v1/deposits",
            json!({ "amount": inr(json!(1)), "gift": true }),
            "gift",
        ),
        (
            "/v1/deposits",
            json!({ "amount": { "amount_minor": 1, "currency": "XQQ" } }),
            "amount.currency",
        ),
        (
            "/v1/transfers",
            json!({ "to": to, "amount": inr(json!(-5)) }),
            "amount.amount_minor",
        ),
        (
            "/v1/transfers",
            json!({ "to": {}, "amount": inr(json!(5)) }),
            "to",
        ),
        (
            "/v1/transfers",
            json!({ "to": to, "amount": { "amount_minor": 5, "currency": "XQQ" } }),
            "amount.currency",
        ),
        (
            "/v1/transfers",
            json!({ "to": to, "amount": inr(json!(5)), "description": "x".repeat(501) }),
            "description",
        ),
    ];
    for (path, body, field) in cases {
        let problem = refused(&asha, asha.keyed(path, &key(), &body)).await;
        println!("{path} {body}");
        expect(&problem, 400, "invalid_argument", field);
    }
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_amount_that_overflows_a_balance_is_refused_and_moves_nothing() {
    let product = Product::start().await;
    let asha = arrive_with(&product.api(), &mut product.mailbox(), "Asha", PLENTY_MINOR).await;
    let body = json!({ "amount": { "amount_minor": i64::MAX, "currency": "INR" } });
    let problem = refused(&asha, asha.keyed("/v1/deposits", &key(), &body)).await;
    assert!([400, 409].contains(&problem.status.as_u16()), "{problem}");
    assert_eq!(crate::common::people::balance(&asha).await, PLENTY_MINOR);
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_huge_or_no_json_are_refused() {
    let product = Product::start().await;
    let asha = arrive(&product.api(), &mut product.mailbox(), "Asha").await;
    let huge = "x".repeat(8 << 20);
    let request = asha.keyed("/v1/deposits", &key(), &json!({ "source": huge }));
    let problem = refused(&asha, request).await;
    assert_eq!(problem.status.as_u16(), 413, "{problem}");
    assert!(!problem.code.is_empty(), "{}", problem.body);

    let broken = asha
        .request(Method::POST, "/v1/deposits")
        .header("Idempotency-Key", key())
        .header("Content-Type", "application/json")
        .body("{\"amount\": ");
    assert_eq!(refused(&asha, broken).await.status.as_u16(), 400);

    let unread = asha
        .request(Method::POST, "/v1/deposits")
        .header("Idempotency-Key", key())
        .header("Content-Type", "text/plain")
        .body("amount=1");
    let status = refused(&asha, unread).await.status.as_u16();
    assert!([400, 415].contains(&status), "{status}");
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_missing_malformed_or_reused_are_refused() {
    let product = Product::start().await;
    let asha = arrive_with(&product.api(), &mut product.mailbox(), "Asha", PLENTY_MINOR).await;
    let amount = |minor: i64| json!({ "amount": { "amount_minor": minor, "currency": "INR" } });

    let missing = asha.request(Method::POST, "/v1/deposits").json(&amount(1));
    expect(
        &refused(&asha, missing).await,
        400,
        "invalid_argument",
        "Idempotency-Key",
    );
    let long = asha.keyed("/v1/deposits", &"k".repeat(256), &amount(1));
    expect(
        &refused(&asha, long).await,
        400,
        "invalid_argument",
        "Idempotency-Key",
    );

    let used = key();
    asha.api()
        .send(asha.keyed("/v1/deposits", &used, &amount(1)))
        .await
        .expect("first use");
    let other = asha.keyed("/v1/deposits", &used, &amount(2));
    expect(
        &refused(&asha, other).await,
        422,
        "idempotency_key_reused",
        "",
    );
    assert_eq!(
        crate::common::people::balance(&asha).await,
        PLENTY_MINOR + 1
    );
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_absent_forged_or_revoked_are_refused() {
    let product = Product::start().await;
    let api = product.api();
    let asha = arrive(&api, &mut product.mailbox(), "Asha").await;
    let read = |token: &str| api.request(Method::GET, "/v1/me").bearer_auth(token);

    let absent = refused(&asha, api.request(Method::GET, "/v1/me")).await;
    assert_eq!(absent.status.as_u16(), 401, "{absent}");
    for forged in forgeries(&asha.tokens.access_token) {
        expect(
            &refused(&asha, read(&forged)).await,
            401,
            "token_invalid",
            "",
        );
    }
    asha.me().await.expect("the real one is good");

    asha.logout().await.expect("signs out");
    let problem = eventually("the token is refused", Duration::from_secs(1), || async {
        asha.me().await.err()
    })
    .await;
    expect(
        problem.problem().expect("an answer"),
        401,
        "token_revoked",
        "",
    );
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_has_expired_is_refused() {
    let product = Product::start().await;
    let asha = arrive(&product.api(), &mut product.mailbox(), "Asha").await;
    asha.me().await.expect("it is good while it is young");
    product.clock().advance(Duration::from_secs(16 * 60));
    let problem = eventually("the token is refused", PATIENCE, || async {
        let problem = asha.me().await.expect_err("it is old").problem().cloned();
        problem.filter(|problem| problem.status.as_u16() == 401)
    })
    .await;
    expect(&problem, 401, "token_expired", "");
    product.stop().await;
}

/// The same claims under no, a foreign or a broken signature, and other claims under the old signature.
fn forgeries(token: &str) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        panic!("{token} is no JWT")
    };
    let mut other: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64"))
            .expect("JSON");
    other["role"] = "super_admin".into();
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = encode(&json!({ "alg": "none", "typ": "at+jwt" }));
    let shared = encode(&json!({ "alg": "HS256", "typ": "at+jwt" }));
    let foreign = BASE64_URL_SAFE_NO_PAD.encode([7; 64]);
    vec![
        format!("{header}.{}.{signature}", encode(&other)),
        format!("{header}.{claims}.{foreign}"),
        format!("{unsigned}.{claims}."),
        format!("{shared}.{claims}.{foreign}"),
        format!("{header}.{claims}"),
        "nonsense".to_owned(),
    ]
}
