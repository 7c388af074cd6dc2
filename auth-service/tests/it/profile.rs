use futures::future::join_all;
use platform::Kind;
use proto::identity::v1::*;

use crate::world::{World, fields};

#[tokio::test]
async fn a_profile_changes_field_by_field_and_its_version_rises() {
    let world = World::start().await;
    let (user, tokens) = world.member("asha@example.org").await;
    let change = UpdateProfileRequest {
        last_name: Some(" Menon ".to_owned()),
        time_zone: Some("asia/kolkata".to_owned()),
        locale: Some("EN-in".to_owned()),
        expected_version: Some(1),
        ..Default::default()
    };
    let changed = world.update(&tokens.access_token, change).await.unwrap();
    let expected = User {
        last_name: "Menon".to_owned(),
        time_zone: "Asia/Kolkata".to_owned(),
        locale: "en-IN".to_owned(),
        version: 2,
        ..user
    };
    assert_eq!(changed, expected);
    assert_eq!(world.profile(&tokens.access_token).await.unwrap(), expected);
    world.end().await;
}

#[tokio::test]
async fn a_stale_version_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let change = |name: &str, expected_version| UpdateProfileRequest {
        first_name: Some(name.to_owned()),
        expected_version,
        ..Default::default()
    };
    world
        .update(&tokens.access_token, change("Bela", Some(1)))
        .await
        .unwrap();
    let error = world
        .update(&tokens.access_token, change("Chandra", Some(1)))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::PreconditionFailed, "version_mismatch")
    );
    assert_eq!(
        world
            .profile(&tokens.access_token)
            .await
            .unwrap()
            .first_name,
        "Bela"
    );
    let changed = world
        .update(&tokens.access_token, change("Chandra", None))
        .await
        .unwrap();
    assert_eq!(
        (changed.first_name.as_str(), changed.version),
        ("Chandra", 3)
    );
    let same = world
        .update(&tokens.access_token, change("Chandra", Some(3)))
        .await
        .unwrap();
    assert_eq!(same.version, 3, "a change that changes nothing is none");
    world.end().await;
}

#[tokio::test]
async fn of_many_changes_of_one_version_one_wins() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let all = join_all((0..10).map(|n| {
        let change = UpdateProfileRequest {
            first_name: Some(format!("Name {n}")),
            expected_version: Some(1),
            ..Default::default()
        };
        world.update(&tokens.access_token, change)
    }))
    .await;
    assert_eq!(all.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(
        world.profile(&tokens.access_token).await.unwrap().version,
        2
    );
    world.end().await;
}

#[tokio::test]
async fn every_wrong_field_of_a_change_is_named() {
    let world = World::start().await;
    let (user, tokens) = world.member("asha@example.org").await;
    let change = UpdateProfileRequest {
        first_name: Some(String::new()),
        last_name: Some("a\nb".to_owned()),
        time_zone: Some("../../etc/passwd".to_owned()),
        locale: Some("not a locale".to_owned()),
        expected_version: None,
    };
    let error = world
        .update(&tokens.access_token, change)
        .await
        .unwrap_err();
    assert_eq!(
        fields(&error),
        ["first_name", "last_name", "time_zone", "locale"]
    );
    assert_eq!(world.profile(&tokens.access_token).await.unwrap(), user);
    world.end().await;
}
