use std::time::Duration;

use platform::test_kit::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{SOON, house, house_with, refused};

#[tokio::test]
async fn a_dead_service_costs_only_its_own_routes() {
    let house = house().await;
    house.wallet_tasks.shutdown(SOON).await;
    let refusal = refused(house.member(Method::GET, "/v1/accounts")).await;
    assert_eq!(
        (refusal.status, refusal.code()),
        (503, "upstream_unavailable")
    );
    assert!(refusal.headers.contains_key("retry-after"));
    let body = json!({"amount": {"amount_minor": 5, "currency": "INR"}});
    // Of what changes something nobody can tell whether it arrived.
    let refusal = refused(house.keyed("/v1/deposits", &body)).await;
    assert_eq!((refusal.status, refusal.code()), (503, "outcome_unknown"));
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

    let report = eventually(SOON, || async {
        let response = house.get("/health/ready").send().await.unwrap();
        assert_eq!(response.status(), 200);
        let report: Value = response.json().await.unwrap();
        (report["status"] == "degraded").then_some(report)
    })
    .await;
    assert_eq!(report["dependencies"]["wallet-service"]["state"], "down");
}

#[tokio::test]
async fn without_a_critical_service_the_gateway_is_not_ready() {
    let house = house_with(|config| config.health.critical.push("wallet-service".into())).await;
    house.wallet_tasks.shutdown(SOON).await;
    eventually(SOON, || async {
        let response = house.get("/health/ready").send().await.unwrap();
        let status = response.status();
        let report: Value = response.json().await.unwrap();
        status == 503 && report["status"] == "unavailable"
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready_but_answers() {
    let house = house().await;
    house.platform.handles().health.drain();
    let ready = house.get("/health/ready").send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let me = house.member(Method::GET, "/v1/me").send().await.unwrap();
    assert_eq!(me.status(), 200);
}

#[tokio::test]
async fn safe_reads_are_tried_again() {
    let house = house().await;
    let away = || platform::Error::unavailable("busy", "in a moment").into();
    house.seen.refusals.lock().unwrap().extend([away(), away()]);
    assert_eq!(
        house
            .member(Method::GET, "/v1/accounts")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(house.seen.count("list_accounts"), 3);
    // What changes something is not.
    house.seen.refusals.lock().unwrap().push_back(away());
    let body = json!({"amount": {"amount_minor": 5, "currency": "INR"}});
    assert_eq!(
        refused(house.keyed("/v1/deposits", &body)).await.status,
        503
    );
    assert_eq!(house.seen.count("deposit"), 1);
}

#[tokio::test]
async fn what_a_lost_replica_may_have_done_is_asked_again_under_the_same_key() {
    let house = house().await;
    let lost = || tonic::Status::unavailable("connection reset");
    house.seen.refusals.lock().unwrap().extend([lost(), lost()]);
    let body = json!({"amount": {"amount_minor": 5, "currency": "INR"}});
    let response = house.keyed("/v1/deposits", &body).send().await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(house.seen.count("deposit"), 3);
}

#[tokio::test]
async fn the_inbox_and_the_schedules_have_their_shapes() {
    let house = house().await;
    let id = house.user;
    let answer = async |method: Method, path: String, body: Option<Value>, status: u16| -> Value {
        let mut request = house.member(method, &path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let text = response.text().await.unwrap();
        if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap()
        }
    };
    let get = async |path: &str| answer(Method::GET, path.to_owned(), None, 200).await;
    assert_eq!(
        get("/v1/notifications/unread-count").await,
        json!({"unread": 3})
    );
    assert_eq!(
        get("/v1/notifications?unread=true").await["data"],
        json!([])
    );
    assert_eq!(house.seen.count("list_notifications Some(true)"), 1);
    let one = format!("/v1/notifications/{id}");
    let marked = answer(Method::PATCH, one.clone(), Some(json!({"read": true})), 200).await;
    assert_eq!(marked["read"], true);
    answer(Method::DELETE, one, None, 204).await;
    let read_all = answer(Method::POST, "/v1/notifications/read-all".into(), None, 200).await;
    assert_eq!(read_all, json!({"marked": 3}));
    answer(Method::POST, "/v1/notifications/test".into(), None, 201).await;
    assert_eq!(get("/v1/categories").await["data"], json!(["food"]));

    let progress = get(&format!("/v1/sms/schedules/{id}/progress")).await;
    assert_eq!(
        progress,
        json!({"total": 3, "by_state": {"DELIVRD": 3}, "status": "finished", "started_at": null,
            "finished_at": null})
    );
    let page = get(&format!("/v1/sms/schedules/{id}/messages?state=DELIVRD")).await;
    assert_eq!(page, json!({"data": [], "next_cursor": null}));
    answer(
        Method::POST,
        format!("/v1/sms/schedules/{id}/cancel"),
        None,
        200,
    )
    .await;

    let body = json!({"run_at": "2026-11-20T10:00:00+05:30", "message": "hi",
        "recipients": ["+27821234567", {"to": "+27821234568"}]});
    let response = house
        .keyed("/v1/sms/schedules", &body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let created: Value = response.json().await.unwrap();
    assert_eq!(
        (&created["accepted"], &created["duplicates"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(created["first_rejects"][0]["reason"], "not_a_number");
    assert_eq!(created["status"], "scheduled");
    let seen = house.seen.schedules.lock().unwrap()[0].clone();
    assert_eq!(seen.run_at.unwrap().seconds, 1_795_149_000);
    assert_eq!(seen.recipients, ["+27821234567", "+27821234568"]);
}

#[tokio::test]
async fn a_running_request_is_finished_at_shutdown() {
    let house = house().await;
    *house.seen.delay.lock().unwrap() = Duration::from_millis(300);
    let request = house.member(Method::GET, "/v1/me").send();
    let shutdown = async {
        eventually(SOON, || async { house.seen.count("get_profile") == 1 }).await;
        house.gateway_tasks.shutdown(SOON).await
    };
    let (response, left) = tokio::join!(request, shutdown);
    assert_eq!(response.unwrap().status(), 200);
    assert!(left.is_empty(), "{left:?}");
}
