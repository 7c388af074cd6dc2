use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{house, refused};

#[tokio::test]
async fn registering_answers_201_with_the_user() {
    let house = house().await;
    let body = json!({"first_name": "Asha", "last_name": "Rao", "email": "a@b.c", "password": "p"});
    let response = house
        .request(Method::POST, "/v1/auth/register")
        .header("user-agent", "x".repeat(2_000))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let user = response.json::<Value>().await.unwrap()["user"].clone();
    assert_eq!(user["handle"], "asha");
    assert_eq!(user["email_verified"], false);
    let seen = house.seen.registrations.lock().unwrap()[0].clone();
    assert_eq!(seen.email, "a@b.c");
    let client = seen.client.unwrap();
    assert_eq!(client.ip, "127.0.0.1");
    assert_eq!(client.user_agent.len(), 512);
}

#[tokio::test]
async fn signing_in_answers_tokens_in_the_body() {
    let house = house().await;
    for (path, body) in [
        (
            "/v1/auth/login",
            json!({"email": "a@b.c", "password": "p", "token_delivery": "body"}),
        ),
        ("/v1/auth/refresh", json!({"refresh_token": "r"})),
    ] {
        let response = house
            .request(Method::POST, path)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["cache-control"], "no-store");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["status"], "authenticated");
        assert_eq!(answer["access_token"], "a.b.c");
        assert_eq!(answer["token_type"], "Bearer");
        assert_eq!(answer["expires_in"], 900);
        assert_eq!(answer["refresh_token"], "r");
        assert_eq!(answer["user"]["handle"], "asha");
    }
}

#[tokio::test]
async fn cookies_are_not_delivered_yet() {
    let house = house().await;
    let body = json!({"email": "a@b.c", "password": "p", "token_delivery": "cookie"});
    let refusal = refused(house.request(Method::POST, "/v1/auth/login").json(&body)).await;
    assert_eq!(
        (refusal.status, refusal.fields()),
        (400, vec!["token_delivery"])
    );
}

#[tokio::test]
async fn the_other_calls_of_a_session_have_their_statuses() {
    let house = house().await;
    for (path, body, status) in [
        ("/v1/auth/logout", json!({"refresh_token": "r"}), 204),
        ("/v1/auth/email/verify", json!({"token": "t"}), 204),
    ] {
        let response = house
            .request(Method::POST, path)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
    for (path, status) in [
        ("/v1/auth/logout-all", 200),
        ("/v1/auth/email/verify/resend", 202),
    ] {
        let response = house.member(Method::POST, path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(refused(house.request(Method::POST, path)).await.status, 401);
    }
}

#[tokio::test]
async fn a_refusal_of_the_service_keeps_its_reason() {
    let house = house().await;
    let taken = platform::Error::conflict("email_taken", "somebody has that address");
    house.seen.refusals.lock().unwrap().push_back(taken.into());
    let body = json!({"first_name": "A", "last_name": "B", "email": "a@b.c", "password": "p"});
    let refusal = refused(house.request(Method::POST, "/v1/auth/register").json(&body)).await;
    assert_eq!((refusal.status, refusal.code()), (409, "email_taken"));
    assert_eq!(refusal.body["instance"], "/v1/auth/register");
}

#[tokio::test]
async fn the_profile_has_a_version_that_a_change_can_insist_on() {
    let house = house().await;
    let response = house.member(Method::GET, "/v1/me").send().await.unwrap();
    assert_eq!(response.headers()["etag"], "\"3\"");
    assert_eq!(response.json::<Value>().await.unwrap()["handle"], "asha");

    let change = |tag: &str| {
        house
            .member(Method::PATCH, "/v1/me")
            .header("if-match", tag)
            .json(&json!({"locale": "en-GB"}))
    };
    assert_eq!(change("\"3\"").send().await.unwrap().status(), 200);
    let update = house.seen.updates.lock().unwrap()[0].clone();
    assert_eq!(update.expected_version, Some(3));
    assert_eq!(
        (update.locale.as_deref(), update.first_name),
        (Some("en-GB"), None)
    );

    let changed = platform::Error::new(
        platform::Kind::PreconditionFailed,
        "version_mismatch",
        "changed meanwhile",
    );
    house
        .seen
        .refusals
        .lock()
        .unwrap()
        .push_back(changed.into());
    assert_eq!(refused(change("\"2\"")).await.status, 412);
    // A tag that was never ours matches nothing, and the service is not even asked.
    assert_eq!(refused(change("\"x\"")).await.status, 412);
    assert_eq!(house.seen.count("update_profile"), 2);
}

#[tokio::test]
async fn a_search_names_the_parameter_that_the_service_refuses() {
    let house = house().await;
    let refusal = refused(house.member(Method::GET, "/v1/users/search?q=a")).await;
    assert_eq!((refusal.status, refusal.fields()), (400, vec!["q"]));
    let response = house
        .member(Method::GET, "/v1/users/search?q=asha")
        .send()
        .await
        .unwrap();
    let page: Value = response.json().await.unwrap();
    assert_eq!(page, json!({"data": [], "next_cursor": null}));
}
