use std::collections::HashSet;
use std::time::Duration;

use auth_service::domain::handle::Handle;
use futures::future::join_all;
use platform::Kind;
use platform::grpc::client::as_user;
use platform::keys::Keys;
use platform::test_kit::assert_clean;
use proto::identity::v1::*;

use crate::world::{World, fields, registration};

#[tokio::test]
async fn a_person_registers_confirms_signs_in_and_renews() {
    let world = World::start().await;
    let user = world.register("Asha.Rao@Example.org").await.unwrap();
    assert_eq!(
        (user.first_name.as_str(), user.last_name.as_str()),
        ("Asha", "Rao")
    );
    assert_eq!(user.email, "Asha.Rao@Example.org");
    assert_eq!(
        (user.role.as_str(), user.email_verified, user.version),
        ("user", false, 1)
    );
    assert!(Handle::parse(&user.handle).is_some());

    let unverified = world
        .login("asha.rao@example.org")
        .await
        .unwrap()
        .tokens
        .unwrap();
    assert!(!world.claims(&unverified.access_token).await.email_verified);

    let token = world.mailed_token("Asha.Rao@Example.org").await;
    assert!(world.verify_email(&token).await.unwrap().email_verified);

    let renewed = world
        .refresh(&unverified.refresh_token)
        .await
        .unwrap()
        .tokens
        .unwrap();
    let claims = world.claims(&renewed.access_token).await;
    assert!(
        claims.email_verified,
        "a confirmed address shows in the next token"
    );
    assert_eq!(claims.sub.to_string(), user.id);
    assert_eq!(claims.exp - claims.iat, 900);
    assert!(
        world
            .profile(&renewed.access_token)
            .await
            .unwrap()
            .email_verified
    );
    world.end().await;
}

#[tokio::test]
async fn each_fact_of_a_registration_is_told_once_and_without_the_address() {
    let world = World::start().await;
    let user = world.register("asha@example.org").await.unwrap();
    let keys = world.platform.handles().keys;

    let registered = world.told::<UserRegistered>().await;
    assert_eq!(
        registered,
        [UserRegistered {
            user_id: user.id.clone(),
            handle: user.handle.clone(),
            email_hash: keys.email_hash("ASHA@example.org"),
            version: 1,
        }]
    );
    let mails = world.told::<MailRequested>().await;
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].template.as_str(), mails[0].locale.as_str()),
        ("verify_email", "en")
    );
    assert!(!String::from_utf8_lossy(&mails[0].sealed).contains("asha@"));
    world.end().await;
}

#[tokio::test]
async fn a_sealed_mail_opens_with_the_mail_key_and_for_its_user_only() {
    let world = World::start().await;
    let user = world.register("asha@example.org").await.unwrap();
    let mail = world.told::<MailRequested>().await.remove(0);
    let keys = world.platform.handles().keys;

    let secret = keys.open_mail(&mail.sealed, user.id.as_bytes()).unwrap();
    assert_eq!(
        (secret.to.as_str(), secret.name.as_str()),
        ("asha@example.org", "Asha")
    );
    assert_eq!(secret.values["token"].len(), 43);

    assert!(keys.open_mail(&mail.sealed, b"somebody else").is_err());
    let other_dir = world.platform.dir().join("other-keys");
    let other = Keys::load_or_create(&other_dir).unwrap();
    assert!(other.open_mail(&mail.sealed, user.id.as_bytes()).is_err());
    world.end().await;
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let world = World::start().await;
    let nothing = world
        .register_with(RegisterRequest::default())
        .await
        .unwrap_err();
    assert_eq!(nothing.kind(), Kind::InvalidArgument);
    assert_eq!(
        fields(&nothing),
        ["first_name", "last_name", "email", "password"]
    );

    type Spoil = fn(&mut RegisterRequest);
    let cases: [(&str, Spoil); 7] = [
        ("first_name", |r| r.first_name = "x".repeat(101)),
        ("last_name", |r| r.last_name = "a\u{202E}b".to_owned()),
        ("email", |r| r.email = "a@b@c".to_owned()),
        ("email", |r| r.email = "a\0@example.org".to_owned()),
        ("password", |r| r.password = "PassWord123".to_owned()),
        ("password", |r| r.password = "é".repeat(129)),
        ("password", |r| r.password = r.email.to_uppercase()),
    ];
    for (field, spoil) in cases {
        let mut request = registration("asha@example.org");
        spoil(&mut request);
        let error = world.register_with(request).await.unwrap_err();
        assert_eq!(fields(&error), [field]);
    }
    assert!(world.told::<UserRegistered>().await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn an_address_is_taken_whatever_its_case() {
    let world = World::start().await;
    world.register("asha@example.org").await.unwrap();
    for email in [
        "asha@example.org",
        "ASHA@EXAMPLE.ORG",
        "  Asha@Example.org ",
    ] {
        let error = world.register(email).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (Kind::Conflict, "email_taken")
        );
    }
    assert_eq!(world.told::<UserRegistered>().await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn of_many_at_once_with_one_address_one_registers() {
    let world = World::start().await;
    let cases = ["asha@example.org", "Asha@example.org", "ASHA@EXAMPLE.ORG"];
    let all = join_all((0..12).map(|n| world.register(cases[n % 3]))).await;
    assert_eq!(all.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in all.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.reason(), "email_taken");
    }
    assert_eq!(world.told::<UserRegistered>().await.len(), 1);
    assert_eq!(world.mails("verify_email").await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn the_owner_of_an_address_is_told_at_most_once_an_hour() {
    let world = World::start().await;
    world.register("Asha@example.org").await.unwrap();
    for _ in 0..3 {
        world.register("asha@example.org").await.unwrap_err();
    }
    let told = world.mails("register_attempt").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].to, "Asha@example.org", "the owner's own spelling");
    assert!(told[0].values.is_empty(), "it carries no token");

    world.advance(Duration::from_secs(3601));
    world.register("asha@example.org").await.unwrap_err();
    world.register("asha@example.org").await.unwrap_err();
    assert_eq!(world.mails("register_attempt").await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn who_tries_many_taken_addresses_must_pause() {
    let world = World::start_with(|config| config.throttle.register_per_block = 3).await;
    world.register("asha@example.org").await.unwrap();
    for _ in 0..3 {
        let error = world.register("asha@example.org").await.unwrap_err();
        assert_eq!(error.reason(), "email_taken");
    }
    let mut neighbour = registration("asha@example.org");
    neighbour.client.as_mut().unwrap().ip = "203.0.113.200".to_owned();
    let error = world.register_with(neighbour).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::RateLimited, "too_many_attempts")
    );
    assert_eq!(error.retry_after(), Some(Duration::from_secs(900)));

    let mut elsewhere = registration("bela@example.org");
    elsewhere.client.as_mut().unwrap().ip = "198.51.100.1".to_owned();
    world.register_with(elsewhere).await.unwrap();
    world.advance(Duration::from_secs(900));
    world.register("chandra@example.org").await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn handles_differ_and_rise_in_no_order() {
    let world = World::start().await;
    let mut handles = Vec::new();
    for n in 0..20 {
        handles.push(
            world
                .register(&format!("user{n}@example.org"))
                .await
                .unwrap()
                .handle,
        );
    }
    let distinct: HashSet<_> = handles.iter().collect();
    assert_eq!(distinct.len(), handles.len());
    assert!(!handles.is_sorted());
    world.end().await;
}

#[tokio::test]
async fn calls_of_the_edge_are_for_services_and_the_others_for_users() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let mut client = world.client.clone();
    let as_member = as_user(registration("bela@example.org"), &tokens.access_token);
    let status = client.register(as_member).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    let as_gateway = world.edge(GetProfileRequest {});
    let status = client.get_profile(as_gateway).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    let status = client.get_jwks(GetJwksRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert_clean(&world.db).await;
    world.end().await;
}
