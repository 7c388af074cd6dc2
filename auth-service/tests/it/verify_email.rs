use std::time::Duration;

use futures::future::join_all;
use platform::Kind;
use proto::identity::v1::*;

use crate::world::{World, fields};

#[tokio::test]
async fn confirming_an_address_is_told_once_with_a_higher_version() {
    let world = World::start().await;
    let user = world.register("asha@example.org").await.unwrap();
    let token = world.mailed_token("asha@example.org").await;
    let all = join_all((0..8).map(|_| world.verify_email(&token))).await;
    for outcome in all {
        let confirmed = outcome.unwrap();
        assert!(confirmed.email_verified);
        assert_eq!(
            (confirmed.id.as_str(), confirmed.version),
            (user.id.as_str(), 2)
        );
    }
    assert_eq!(
        world.told::<EmailVerified>().await,
        [EmailVerified {
            user_id: user.id,
            version: 2
        }]
    );
    world.end().await;
}

#[tokio::test]
async fn a_second_click_within_the_tokens_life_changes_nothing() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    let token = world.mailed_token("asha@example.org").await;
    let first = world.verify_email(&token).await.unwrap();
    assert_eq!(world.verify_email(&token).await.unwrap(), first);
    world.advance(Duration::from_secs(24 * 3600));
    assert_eq!(
        world.verify_email(&token).await.unwrap_err().reason(),
        "token_invalid"
    );
    world.end().await;
}

#[tokio::test]
async fn unknown_and_expired_tokens_are_refused_by_name() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    let token = world.mailed_token("asha@example.org").await;
    for bad in ["", "nonsense", &token[1..], &"x".repeat(100_000)] {
        let error = world.verify_email(bad).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (Kind::InvalidArgument, "token_invalid")
        );
        assert_eq!(fields(&error), ["token"]);
    }
    world.advance(Duration::from_secs(24 * 3600));
    let error = world.verify_email(&token).await.unwrap_err();
    assert_eq!(error.reason(), "token_invalid");
    assert!(world.told::<EmailVerified>().await.is_empty());
    world.end().await;
}
