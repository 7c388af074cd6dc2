use std::time::Duration;

use platform::{Error, FieldViolation, Kind};
use proto::wallet::v1::payee::By;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{house, refused};

fn body() -> Value {
    json!({"to": {"handle": "ravi"}, "amount": {"amount_minor": 1250, "currency": "INR"},
        "description": "Lunch", "category": "food"})
}

#[tokio::test]
async fn a_transfer_reaches_the_wallet_as_it_was_asked_for() {
    let house = house().await;
    let response = house.keyed("/v1/transfers", &body()).send().await.unwrap();
    assert_eq!(response.status(), 201);
    assert!(!response.headers().contains_key("idempotency-replayed"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["status"], "posted");
    assert_eq!(
        answer["amount"],
        json!({"amount_minor": 1250, "currency": "INR"})
    );
    assert_eq!(answer["from"], json!({"user_id": "u"}));
    assert_eq!(answer["to"], json!({"external": "sandbox"}));
    assert_eq!(answer["created_at"], "2023-11-14T22:13:20.5Z");
    let seen = house.seen.transfers.lock().unwrap()[0].clone();
    assert_eq!(seen.idempotency_key, "key-1");
    assert_eq!(seen.to.unwrap().by, Some(By::Handle("ravi".into())));
    assert_eq!(seen.amount.unwrap().amount_minor, 1250);
    assert_eq!(
        (seen.description.as_str(), seen.category.as_str()),
        ("Lunch", "food")
    );
}

#[tokio::test]
async fn a_payee_is_named_in_one_of_three_ways() {
    let house = house().await;
    let id = house.user.to_string();
    for (to, by) in [
        (
            json!({"email": "r@e.x", "handle": null}),
            By::Email("r@e.x".into()),
        ),
        (json!({"user_id": id}), By::UserId(id.clone())),
    ] {
        let mut body = body();
        body["to"] = to;
        assert_eq!(
            house
                .keyed("/v1/transfers", &body)
                .send()
                .await
                .unwrap()
                .status(),
            201
        );
        let seen = house.seen.transfers.lock().unwrap().last().unwrap().clone();
        assert_eq!(seen.to.unwrap().by, Some(by));
    }
}

#[tokio::test]
async fn a_replay_is_marked_whether_it_succeeded_or_not() {
    let house = house().await;
    *house.seen.replays.lock().unwrap() = true;
    let response = house.keyed("/v1/transfers", &body()).send().await.unwrap();
    assert_eq!(response.headers()["idempotency-replayed"], "true");

    let refusal = Error::conflict("insufficient_funds", "the account holds less than that");
    house
        .seen
        .refusals
        .lock()
        .unwrap()
        .push_back(refusal.into());
    let refusal = refused(house.keyed("/v1/transfers", &body())).await;
    assert_eq!(
        (refusal.status, refusal.code()),
        (409, "insufficient_funds")
    );
    assert_eq!(refusal.headers["idempotency-replayed"], "true");
}

#[tokio::test]
async fn each_kind_of_refusal_has_its_status() {
    let house = house().await;
    for (error, status) in [
        (
            Error::new(Kind::KeyReused, "idempotency_key_reused", "another request"),
            422,
        ),
        (
            Error::new(
                Kind::PermissionDenied,
                "email_not_verified",
                "confirm first",
            ),
            403,
        ),
        (Error::not_found("payee"), 404),
        (Error::unavailable("busy", "later"), 503),
        (
            Error::internal(std::io::Error::other("password is hunter2")),
            500,
        ),
    ] {
        let code = error.reason().to_owned();
        house.seen.refusals.lock().unwrap().push_back(error.into());
        let refusal = refused(house.keyed("/v1/transfers", &body())).await;
        assert_eq!((refusal.status, refusal.code()), (status, code.as_str()));
        assert!(!refusal.body.to_string().contains("hunter2"));
        assert_eq!(refusal.headers.contains_key("retry-after"), status == 503);
    }
    let invalid = Error::invalid(vec![FieldViolation::new("amount.currency", "is unknown")]);
    house
        .seen
        .refusals
        .lock()
        .unwrap()
        .push_back(invalid.into());
    let refusal = refused(house.keyed("/v1/transfers", &body())).await;
    assert_eq!(
        (refusal.status, refusal.fields()),
        (400, vec!["amount.currency"])
    );
}

#[tokio::test]
async fn a_payment_without_an_answer_has_an_unknown_outcome() {
    let house = house().await;
    let late = Error::new(Kind::Timeout, "deadline_exceeded", "no answer in time");
    house.seen.refusals.lock().unwrap().push_back(late.into());
    let refusal = refused(house.keyed("/v1/transfers", &body())).await;
    assert_eq!((refusal.status, refusal.code()), (503, "outcome_unknown"));
    assert!(refusal.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn accounts_and_balances_are_money() {
    let house = house().await;
    let money = |amount: i64| json!({"amount_minor": amount, "currency": "INR"});
    let page: Value = house
        .member(Method::GET, "/v1/accounts")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(page["next_cursor"], Value::Null);
    assert_eq!(page["data"][0]["available"], money(480));
    let id = page["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/accounts/{id}/balance");
    let balance: Value = house
        .member(Method::GET, &path)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        balance,
        json!({"account_id": id, "currency": "INR", "posted": money(500), "pending": money(20),
            "available": money(480), "version": 4})
    );
    // A moment in the past is not answered with the present.
    let past = format!("{path}?at=2026-01-01T00:00:00Z");
    assert_eq!(
        refused(house.member(Method::GET, &past)).await.fields(),
        ["at"]
    );
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_cut_off() {
    let house = crate::harness::house_with(|config| config.request_timeout_ms = 100).await;
    *house.seen.delay.lock().unwrap() = Duration::from_secs(30);
    let refusal = refused(house.member(Method::GET, "/v1/me")).await;
    assert_eq!((refusal.status, refusal.code()), (503, "timeout"));
}
