use std::time::Duration;

use futures::future::join_all;
use platform::Kind;
use proto::identity::v1::*;

use crate::world::{World, sign_in};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn each_refresh_gives_the_next_token_of_the_same_session() {
    let world = World::start().await;
    let (_, mut tokens) = world.member("asha@example.org").await;
    let session = world.claims(&tokens.access_token).await.sid;
    for _ in 0..5 {
        let next = world
            .refresh(&tokens.refresh_token)
            .await
            .unwrap()
            .tokens
            .unwrap();
        assert_ne!(next.refresh_token, tokens.refresh_token);
        assert_ne!(
            next.access_token, tokens.access_token,
            "also within one second"
        );
        assert_eq!(world.claims(&next.access_token).await.sid, session);
        tokens = next;
    }
    assert!(world.told::<SessionRevoked>().await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_token_that_comes_twice_ends_the_whole_family() {
    let world = World::start().await;
    let (user, first) = world.member("asha@example.org").await;
    let other = world
        .login("asha@example.org")
        .await
        .unwrap()
        .tokens
        .unwrap();
    let second = world
        .refresh(&first.refresh_token)
        .await
        .unwrap()
        .tokens
        .unwrap();
    let session = world.claims(&second.access_token).await.sid;

    let error = world.refresh(&first.refresh_token).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::Unauthenticated, "refresh_token_reused")
    );
    let error = world.refresh(&second.refresh_token).await.unwrap_err();
    assert_eq!(error.reason(), "refresh_token_invalid");
    let error = world.profile(&second.access_token).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::Unauthenticated, "token_revoked")
    );

    let told = world.told::<SessionRevoked>().await;
    assert_eq!(
        told,
        [SessionRevoked {
            session_id: session.to_string(),
            user_id: user.id,
            reason: "refresh_token_reused".to_owned(),
        }]
    );
    world.refresh(&other.refresh_token).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn of_many_refreshes_at_once_one_wins() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let all = join_all((0..20).map(|_| world.refresh(&tokens.refresh_token))).await;
    assert_eq!(all.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in all.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.kind(), Kind::Unauthenticated);
        assert!(["refresh_token_reused", "refresh_token_invalid"].contains(&error.reason()));
    }
    assert_eq!(world.told::<SessionRevoked>().await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn unknown_and_expired_tokens_are_refused_alike() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let unknown = world.refresh("nonsense").await.unwrap_err();
    assert_eq!(
        (unknown.kind(), unknown.reason()),
        (Kind::Unauthenticated, "refresh_token_invalid")
    );
    world.refresh("").await.unwrap_err();
    world.advance(DAY * 7);
    let expired = world.refresh(&tokens.refresh_token).await.unwrap_err();
    assert_eq!(expired.reason(), unknown.reason());
    assert_eq!(expired.message(), unknown.message());
    assert!(
        world.told::<SessionRevoked>().await.is_empty(),
        "expiry is no theft"
    );
    world.end().await;
}

#[tokio::test]
async fn use_renews_a_session_until_its_absolute_end() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    let request = LoginRequest {
        remember_me: true,
        ..sign_in("asha@example.org")
    };
    let mut tokens = world.login_with(request).await.unwrap().tokens.unwrap();
    for _ in 0..3 {
        world.advance(DAY * 29);
        tokens = world
            .refresh(&tokens.refresh_token)
            .await
            .unwrap()
            .tokens
            .unwrap();
    }
    world.advance(DAY * 3);
    let error = world.refresh(&tokens.refresh_token).await.unwrap_err();
    assert_eq!(error.reason(), "refresh_token_invalid");
    world.end().await;
}
