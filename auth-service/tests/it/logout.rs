use std::time::Duration;

use futures::future::join_all;
use platform::Kind;
use proto::identity::v1::*;

use crate::world::World;

#[tokio::test]
async fn who_signs_out_is_refused_at_once() {
    let world = World::start().await;
    let (user, tokens) = world.member("asha@example.org").await;
    world.profile(&tokens.access_token).await.unwrap();
    world.logout(&tokens.refresh_token).await.unwrap();
    let error = world.profile(&tokens.access_token).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::Unauthenticated, "token_revoked")
    );
    let error = world.refresh(&tokens.refresh_token).await.unwrap_err();
    assert_eq!(error.reason(), "refresh_token_invalid");
    let told = world.told::<SessionRevoked>().await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].user_id.as_str(), told[0].reason.as_str()),
        (user.id.as_str(), "sign_out")
    );
    world.end().await;
}

#[tokio::test]
async fn signing_out_again_or_with_nonsense_is_no_error_and_tells_nothing() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    for token in [&tokens.refresh_token, &tokens.refresh_token, "nonsense", ""] {
        world.logout(token).await.unwrap();
    }
    assert_eq!(world.told::<SessionRevoked>().await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn an_older_token_of_a_session_also_signs_it_out() {
    let world = World::start().await;
    let (_, first) = world.member("asha@example.org").await;
    let second = world
        .refresh(&first.refresh_token)
        .await
        .unwrap()
        .tokens
        .unwrap();
    world.logout(&first.refresh_token).await.unwrap();
    assert!(world.refresh(&second.refresh_token).await.is_err());
    assert!(world.profile(&second.access_token).await.is_err());
    world.end().await;
}

#[tokio::test]
async fn signing_out_everywhere_ends_all_of_ones_own_sessions() {
    let world = World::start().await;
    let (_, first) = world.member("asha@example.org").await;
    let (_, stranger) = world.member("bela@example.org").await;
    // More than one transaction ends.
    let others = join_all((0..250).map(|_| world.login("asha@example.org"))).await;
    let others: Vec<_> = others
        .into_iter()
        .map(|o| o.unwrap().tokens.unwrap())
        .collect();

    assert_eq!(world.logout_all(&first.access_token).await.unwrap(), 251);
    for tokens in others.iter().step_by(50).chain([&first]) {
        assert_eq!(
            world
                .profile(&tokens.access_token)
                .await
                .unwrap_err()
                .reason(),
            "token_revoked"
        );
        assert!(world.refresh(&tokens.refresh_token).await.is_err());
    }
    world.profile(&stranger.access_token).await.unwrap();
    let told = world.told::<SessionRevoked>().await;
    assert_eq!(told.len(), 251);
    assert!(
        told.iter()
            .all(|event| event.reason == "sign_out_everywhere")
    );
    let again = world
        .login("asha@example.org")
        .await
        .unwrap()
        .tokens
        .unwrap();
    assert_eq!(world.logout_all(&again.access_token).await.unwrap(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_revoked_token_stays_refused_until_it_has_expired() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    world.logout(&tokens.refresh_token).await.unwrap();
    world.advance(Duration::from_secs(14 * 60));
    assert_eq!(
        world
            .profile(&tokens.access_token)
            .await
            .unwrap_err()
            .reason(),
        "token_revoked"
    );
    world.advance(Duration::from_secs(60));
    assert_eq!(
        world
            .profile(&tokens.access_token)
            .await
            .unwrap_err()
            .reason(),
        "token_expired"
    );
    world.end().await;
}
