use std::time::Duration;

use futures::future::join_all;
use platform::Kind;
use platform::time::{from_proto, to_proto};
use proto::identity::v1::*;
use sea_orm::{ConnectionTrait, Statement};

use crate::world::{World, client, fields, sign_in};

const DAY: Duration = Duration::from_secs(86_400);

fn wrong(email: &str) -> LoginRequest {
    LoginRequest {
        password: "wrong horse battery".to_owned(),
        ..sign_in(email)
    }
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_get_the_same_answer() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    let unknown = world
        .login_with(wrong("nobody@example.org"))
        .await
        .unwrap_err();
    let known = world
        .login_with(wrong("asha@example.org"))
        .await
        .unwrap_err();
    assert_eq!(unknown.kind(), Kind::Unauthenticated);
    assert_eq!(unknown.reason(), "invalid_credentials");
    assert_eq!(
        (
            known.kind(),
            known.reason(),
            known.message(),
            known.retry_after()
        ),
        (
            unknown.kind(),
            unknown.reason(),
            unknown.message(),
            unknown.retry_after()
        )
    );
    for email in ["nobody@example.org", "asha@example.org"] {
        for _ in 0..4 {
            let error = world.login_with(wrong(email)).await.unwrap_err();
            assert_eq!(error.reason(), "invalid_credentials");
        }
        let error = world.login_with(wrong(email)).await.unwrap_err();
        assert_eq!(
            error.reason(),
            "too_many_attempts",
            "{email} is braked like any other"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn what_is_no_address_is_refused_by_name() {
    let world = World::start().await;
    let error = world.login_with(LoginRequest::default()).await.unwrap_err();
    assert_eq!(fields(&error), ["email", "password"]);
    let mut named = sign_in("asha@example.org");
    named.device_name = "x".repeat(101);
    assert_eq!(
        fields(&world.login_with(named).await.unwrap_err()),
        ["device_name"]
    );
    let mut huge = sign_in("asha@example.org");
    huge.password = "x".repeat(1_000_000);
    let error = world.login_with(huge).await.unwrap_err();
    assert_eq!(error.reason(), "invalid_credentials");
    world.end().await;
}

#[tokio::test]
async fn a_session_lasts_seven_days_or_thirty_when_remembered() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    let now = world.platform.clock().now();
    for (remember_me, days) in [(false, 7), (true, 30)] {
        let request = LoginRequest {
            remember_me,
            ..sign_in("asha@example.org")
        };
        let tokens = world.login_with(request).await.unwrap().tokens.unwrap();
        assert_eq!(tokens.expires_in, 900);
        assert_eq!(tokens.refresh_expires_at, Some(to_proto(now + DAY * days)));
        assert!(
            from_proto("at", &tokens.refresh_expires_at)
                .unwrap()
                .is_some()
        );
    }
    world.end().await;
}

#[tokio::test]
async fn five_failures_pause_one_address_but_not_the_owner_elsewhere() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    for _ in 0..5 {
        let error = world
            .login_with(wrong("asha@example.org"))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "invalid_credentials");
    }
    let error = world.login("asha@example.org").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::RateLimited, "too_many_attempts")
    );
    assert_eq!(error.retry_after(), Some(Duration::from_secs(900)));

    let mut elsewhere = sign_in("asha@example.org");
    elsewhere.client = Some(client("198.51.100.1"));
    world.login_with(elsewhere).await.unwrap();

    world.advance(Duration::from_secs(900));
    world.login("asha@example.org").await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn successes_are_not_counted() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    for _ in 0..4 {
        world
            .login_with(wrong("asha@example.org"))
            .await
            .unwrap_err();
    }
    for _ in 0..10 {
        world.login("asha@example.org").await.unwrap();
    }
    world.end().await;
}

#[tokio::test]
async fn guesses_at_the_same_time_do_not_slip_past_the_count() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    let all = join_all((0..30).map(|_| world.login_with(wrong("asha@example.org")))).await;
    let wrong = all.into_iter().filter_map(Result::err);
    let answered = wrong
        .filter(|error| error.reason() == "invalid_credentials")
        .count();
    assert_eq!(answered, 5);
    let error = world.login("asha@example.org").await.unwrap_err();
    assert_eq!(
        error.reason(),
        "too_many_attempts",
        "the right password must wait too"
    );
    world.end().await;
}

#[tokio::test]
async fn sign_ins_at_the_same_time_are_not_mistaken_for_guesses() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    for outcome in join_all((0..20).map(|_| world.login("asha@example.org"))).await {
        outcome.unwrap();
    }
    world.end().await;
}

#[tokio::test]
async fn an_address_that_tries_many_accounts_must_pause() {
    let world = World::start_with(|config| config.throttle.sign_in_per_address = 7).await;
    for n in 0..7 {
        let error = world
            .login_with(wrong(&format!("u{n}@example.org")))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "invalid_credentials");
    }
    let error = world.login_with(wrong("u8@example.org")).await.unwrap_err();
    assert_eq!(error.reason(), "too_many_attempts");
    for ip in ["", "not an address"] {
        let mut broken = wrong("u8@example.org");
        broken.client = Some(client(ip));
        let error = world.login_with(broken).await.unwrap_err();
        assert_eq!(
            error.reason(),
            "invalid_credentials",
            "{ip:?} is counted apart"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn a_hash_moves_to_new_parameters_at_the_next_sign_in() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    let mut stronger = world.config.clone();
    stronger.password_hash.iterations = 2;
    let mut replica = world.replica(stronger).await;
    let stored = async || {
        let backend = world.db.backend();
        let query = Statement::from_string(backend, "SELECT password_hash FROM users");
        let row = world
            .db
            .reader()
            .query_one_raw(query)
            .await
            .unwrap()
            .unwrap();
        row.try_get::<String>("", "password_hash").unwrap()
    };
    assert!(stored().await.contains("t=1"));
    replica
        .login(world.edge(sign_in("asha@example.org")))
        .await
        .unwrap();
    assert!(stored().await.contains("t=2"));
    world.login("asha@example.org").await.unwrap();
    world.end().await;
}
