use std::time::Duration;

use futures::future::join_all;
use platform::Kind;

use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn another_mail_comes_after_a_minute_and_older_tokens_work_on() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let first = world.mailed_token("asha@example.org").await;

    let error = world.resend(&tokens.access_token).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::RateLimited, "too_many_mails")
    );
    assert_eq!(error.retry_after(), Some(MINUTE));

    world.advance(MINUTE);
    world.resend(&tokens.access_token).await.unwrap();
    let second = world.mailed_token("asha@example.org").await;
    assert_ne!(first, second);
    world.verify_email(&first).await.unwrap();
    world.verify_email(&second).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn of_many_that_ask_at_once_one_gets_a_mail() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    world.advance(MINUTE);
    let all = join_all((0..10).map(|_| world.resend(&tokens.access_token))).await;
    assert_eq!(all.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(world.mails("verify_email").await.len(), 2);
    world.end().await;
}

#[tokio::test]
async fn an_hour_brings_five_mails_at_most() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    for _ in 0..4 {
        world.advance(MINUTE);
        world.resend(&tokens.access_token).await.unwrap();
    }
    world.advance(MINUTE);
    let error = world.resend(&tokens.access_token).await.unwrap_err();
    assert_eq!(error.reason(), "too_many_mails");
    assert_eq!(error.retry_after(), Some(MINUTE * 55));
    world.advance(MINUTE * 55);
    let renewed = world
        .refresh(&tokens.refresh_token)
        .await
        .unwrap()
        .tokens
        .unwrap();
    world.resend(&renewed.access_token).await.unwrap();
    assert_eq!(world.mails("verify_email").await.len(), 6);
    world.end().await;
}

#[tokio::test]
async fn who_has_confirmed_gets_no_further_mail() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let token = world.mailed_token("asha@example.org").await;
    world.verify_email(&token).await.unwrap();
    world.advance(MINUTE);
    let error = world.resend(&tokens.access_token).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::Conflict, "email_already_verified")
    );
    assert_eq!(world.mails("verify_email").await.len(), 1);
    world.end().await;
}
