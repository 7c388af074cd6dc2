//! Mails through a mail server, of one replica and of two.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use notify_service::{MailChannel, SmtpConfig, SmtpTls};
use platform::event_bus::Envelope;
use platform::test_kit::{DEADLINE, TestPlatform, assert_clean, envelope, eventually};
use proto::events::v1::MailSecret;
use proto::identity::v1::MailRequested;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::helpers::*;
use crate::smtp_server::{Act, SmtpServer, Stage};

async fn world(server: &SmtpServer, platform: TestPlatform) -> World {
    World::start_on(platform, |config| {
        config.mail.channel = MailChannel::Smtp;
        config.mail.attempts = 3;
        config.mail.smtp = SmtpConfig {
            host: "127.0.0.1".to_owned(),
            port: server.port(),
            tls: SmtpTls::None,
            ..SmtpConfig::default()
        };
    })
    .await
}

fn mail_to(world: &World, to: &str) -> Envelope {
    let user_id = new_id().to_string();
    let secret = MailSecret {
        to: to.to_owned(),
        name: "Asha".to_owned(),
        values: [("token".to_owned(), "t".to_owned())].into(),
    };
    let now = world.platform.clock().now();
    let keys = world.platform.handles().keys;
    let request = MailRequested {
        sealed: keys.seal_mail(&secret, user_id.as_bytes()),
        user_id,
        template: "verify_email".to_owned(),
        locale: "de".to_owned(),
        expires_at: Some(platform::time::to_proto(
            now + SignedDuration::from_hours(24),
        )),
    };
    envelope(now, "", &request)
}

/// State, attempts and last error of a mail.
async fn mail(world: &World, event: &Envelope) -> (String, i64, String) {
    let id: Uuid = event.id.parse().unwrap();
    let statement = sea_orm::Statement::from_sql_and_values(
        world.db.backend(),
        "SELECT state, attempts, last_error FROM mails WHERE event_id = $1",
        [id.into()],
    );
    let row = world.db.reader().query_one_raw(statement).await.unwrap();
    let row = row.unwrap();
    (
        row.try_get("", "state").unwrap(),
        row.try_get("", "attempts").unwrap(),
        row.try_get("", "last_error").unwrap(),
    )
}

async fn becomes(world: &World, event: &Envelope, state: &str) -> (i64, String) {
    eventually(DEADLINE, || async {
        let (is, attempts, error) = mail(world, event).await;
        (is == state).then_some((attempts, error))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_send_each_mail_once() {
    let server = SmtpServer::start().await;
    let world = world(&server, TestPlatform::start().await).await;
    // Both replicas hear of every mail, and both want to send it.
    serve(&world.config, world.platform.handles_with_own_tasks()).await;
    let events: Vec<_> = (0..100)
        .map(|n| mail_to(&world, &format!("a{n}@example.org")))
        .collect();
    let publish = events
        .iter()
        .map(|event| world.platform.publish(event.clone()));
    futures::future::join_all(publish).await;
    for event in &events {
        assert_eq!(becomes(&world, event, "sent").await, (1, String::new()));
    }
    let letters = server.letters();
    let ids: BTreeSet<_> = letters.iter().map(|letter| letter.message_id()).collect();
    let people: BTreeSet<_> = letters.iter().flat_map(|letter| &letter.to).collect();
    assert_eq!((letters.len(), ids.len(), people.len()), (100, 100, 100));
    assert!(letters[0].content.is_ascii());
    assert_clean(&world.db).await;
}

#[tokio::test]
async fn a_recipient_whom_the_server_refuses_is_given_up_at_once() {
    let server = SmtpServer::start().await;
    let world = world(&server, TestPlatform::start().await).await;
    server.script(|stage, _| match stage {
        Stage::Rcpt => Act::Say("550 5.1.1 <nobody@example.org>: \0no such\x07 user"),
        _ => Act::Go,
    });
    let event = mail_to(&world, "nobody@example.org");
    world.platform.publish(event.clone()).await;
    let (attempts, error) = becomes(&world, &event, "failed").await;
    assert_eq!(attempts, 1);
    assert!(
        error.contains("550") && error.contains("no such"),
        "{error}"
    );
    assert!(!error.contains('@') && !error.contains('\0'), "{error}");
    assert!(server.letters().is_empty());
}

#[tokio::test]
async fn a_mail_outlives_a_server_that_is_away_or_does_not_take_it_now() {
    let mut server = SmtpServer::start().await;
    let world = world(&server, TestPlatform::start_with_manual_clock().await).await;
    let event = mail_to(&world, "asha@example.org");
    server.stop().await;
    world.platform.publish(event.clone()).await;
    let put_off = async |attempt, word: &str| {
        eventually(DEADLINE, || async {
            let (_, attempts, error) = mail(&world, &event).await;
            attempts == attempt && error.contains(word)
        })
        .await;
        let clock = world.platform.manual_clock();
        clock.advance(SignedDuration::from_secs(25));
    };
    put_off(1, "connecting").await;
    server.start_again().await;
    server.script(|stage, _| match stage {
        Stage::End => Act::Say("451 4.7.1 greylisted"),
        _ => Act::Go,
    });
    // The clock may have been moved before the worker slept.
    put_off(2, "greylisted").await;
    server.behave();
    let (attempts, _) = becomes(&world, &event, "sent").await;
    assert_eq!((attempts, server.letters().len()), (3, 1));
}
