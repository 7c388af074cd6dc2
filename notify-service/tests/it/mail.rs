//! Mails: once, with their secret, which then is gone.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use platform::event_bus::Envelope;
use platform::test_kit::{DEADLINE, assert_clean, envelope, eventually};
use proto::events::v1::MailSecret;
use proto::identity::v1::MailRequested;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::helpers::*;

const TOKEN: &str = "tok_3n-of.the~mail";

fn request(world: &World, template: &str, locale: &str, expires_at: Timestamp) -> MailRequested {
    let user_id = new_id().to_string();
    let secret = MailSecret {
        to: "asha@example.org".to_owned(),
        name: "Asha <b>".to_owned(),
        values: [("token".to_owned(), TOKEN.to_owned())].into(),
    };
    MailRequested {
        sealed: world
            .platform
            .handles()
            .keys
            .seal_mail(&secret, user_id.as_bytes()),
        user_id,
        template: template.to_owned(),
        locale: locale.to_owned(),
        expires_at: Some(platform::time::to_proto(expires_at)),
    }
}

fn verification(world: &World) -> Envelope {
    let now = world.platform.clock().now();
    let event = request(
        world,
        "verify_email",
        "en-IN",
        now + SignedDuration::from_hours(24),
    );
    envelope(now, "", &event)
}

async fn state(world: &World, event: &Envelope) -> Option<(String, Option<Vec<u8>>, i64)> {
    let id: Uuid = event.id.parse().unwrap();
    let statement = sea_orm::Statement::from_sql_and_values(
        world.db.backend(),
        "SELECT state, sealed, attempts FROM mails WHERE event_id = $1",
        [id.into()],
    );
    let row = world.db.reader().query_one_raw(statement).await.unwrap()?;
    Some((
        row.try_get("", "state").unwrap(),
        row.try_get("", "sealed").unwrap(),
        row.try_get("", "attempts").unwrap(),
    ))
}

async fn becomes(world: &World, event: &Envelope, wanted: &str) -> (Option<Vec<u8>>, i64) {
    eventually(DEADLINE, || async {
        let (state, sealed, attempts) = state(world, event).await?;
        (state == wanted).then_some((sealed, attempts))
    })
    .await
}

#[tokio::test]
async fn a_mail_is_written_once_and_its_secret_is_gone() {
    let world = World::start_with_manual_clock().await;
    let event = verification(&world);
    for _ in 0..3 {
        world.platform.publish(event.clone()).await;
    }
    let (sealed, attempts) = becomes(&world, &event, "sent").await;
    assert_eq!((sealed, attempts), (None, 1));
    let mails = mails(&world);
    let [(path, mail)] = mails.as_slice() else {
        panic!("one mail: {mails:?}")
    };
    let link = format!("http://127.0.0.1:8080/verify-email?token={TOKEN}");
    assert_eq!(
        mail.matches(&link).count(),
        3,
        "text, reference and words: {mail}"
    );
    assert!(
        mail.lines().any(|line| line == TOKEN),
        "the bare token too: {mail}"
    );
    assert!(mail.contains("Asha &lt;b&gt;"), "{mail}");
    assert!(
        mail.contains("To: ") && mail.contains("asha@example.org"),
        "{mail}"
    );
    assert_private(path);
    assert_clean(&world.db).await;
}

#[cfg(unix)]
fn assert_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[cfg(not(unix))]
fn assert_private(_: &Path) {}

#[tokio::test]
async fn a_mail_about_an_attempt_to_register_is_sent_in_the_readers_language() {
    let world = World::start().await;
    let now = world.platform.clock().now();
    let request = request(
        &world,
        "register_attempt",
        "de-AT",
        now + SignedDuration::from_hours(1),
    );
    world.platform.emit("", &request).await;
    let mail = eventually(DEADLINE, || async { mails(&world).pop() })
        .await
        .1;
    assert!(mail.contains("die schon zu Ihrem Konto gehört"), "{mail}");
}

#[tokio::test]
async fn a_mail_whose_secret_has_expired_is_not_sent() {
    let world = World::start().await;
    let now = world.platform.clock().now();
    let request = request(
        &world,
        "verify_email",
        "en",
        now - SignedDuration::from_secs(1),
    );
    let event = envelope(now, "", &request);
    world.platform.publish(event.clone()).await;
    let (sealed, _) = becomes(&world, &event, "expired").await;
    assert_eq!(sealed, None);
    assert!(mails(&world).is_empty());
}

#[tokio::test]
async fn a_mail_that_was_written_but_not_noted_replaces_itself() {
    let mut world = World::start_with_manual_clock().await;
    let event = verification(&world);
    world.platform.publish(event.clone()).await;
    becomes(&world, &event, "sent").await;
    // What a crash between writing and noting leaves: the row as it was when it was claimed.
    let claimed_until = world.platform.clock().now() + SignedDuration::from_secs(30);
    let statement = sea_orm::Statement::from_sql_and_values(
        world.db.backend(),
        "UPDATE mails SET state = 'queued', sealed = $1, due_at = $2",
        [
            proto_sealed(&event).into(),
            platform::time::to_micros(claimed_until).into(),
        ],
    );
    let tx = world.db.begin().await.unwrap();
    tx.execute_raw(statement).await.unwrap();
    tx.commit().await.unwrap();
    world.client = serve(&world.config, world.platform.handles_with_own_tasks()).await;
    if world.db.backend() == sea_orm::DbBackend::Postgres {
        // Another replica may be at it, until its claim runs out.
        assert_eq!(state(&world, &event).await.unwrap().2, 1);
        let clock = world.platform.manual_clock();
        clock.advance(SignedDuration::from_secs(31));
    }
    // Alone on its database, a start takes it up at once.
    let (sealed, attempts) = becomes(&world, &event, "sent").await;
    assert_eq!((sealed, attempts), (None, 2));
    assert_eq!(mails(&world).len(), 1);
}

fn proto_sealed(event: &Envelope) -> Vec<u8> {
    platform::event_bus::decode::<MailRequested>(event)
        .unwrap()
        .sealed
}

#[tokio::test]
async fn a_folder_that_fails_is_tried_again_and_then_given_up_and_brought_back() {
    let world = World::start_on(
        platform::test_kit::TestPlatform::start_with_manual_clock().await,
        |config| config.mail.attempts = 3,
    )
    .await;
    std::fs::remove_dir_all(&world.config.mail.folder).unwrap();
    let event = verification(&world);
    world.platform.publish(event.clone()).await;
    for attempt in 1..=2 {
        eventually(DEADLINE, || async {
            state(&world, &event).await?.2.eq(&attempt).then_some(())
        })
        .await;
        // The claim ends with the time of the next try, which comes before the claim would have run out.
        let id: Uuid = event.id.parse().unwrap();
        let now = platform::time::to_micros(world.platform.clock().now());
        eventually(DEADLINE, || async {
            let due = world
                .number("SELECT due_at FROM mails WHERE event_id = $1", id)
                .await;
            due.is_some_and(|due| due - now < 20_000_000)
        })
        .await;
        world
            .platform
            .manual_clock()
            .advance(SignedDuration::from_secs(60));
    }
    let (sealed, attempts) = becomes(&world, &event, "failed").await;
    assert!(sealed.is_some() && attempts == 3);

    std::fs::create_dir_all(&world.config.mail.folder).unwrap();
    let handles = world.platform.handles();
    assert_eq!(
        notify_service::redrive(&world.config, &handles)
            .await
            .unwrap(),
        1
    );
    world
        .platform
        .manual_clock()
        .advance(SignedDuration::from_secs(60));
    assert_eq!(becomes(&world, &event, "sent").await.0, None);
    assert_eq!(mails(&world).len(), 1);
}

#[tokio::test]
async fn a_mail_whose_seal_does_not_open_is_put_aside() {
    let world = World::start().await;
    let now = world.platform.clock().now();
    let mut request = request(
        &world,
        "verify_email",
        "en",
        now + SignedDuration::from_hours(1),
    );
    request.user_id = new_id().to_string();
    let event = envelope(now, "", &request);
    world.platform.publish(event.clone()).await;
    let dead = platform::consumer::dead_letters(world.db.reader())
        .await
        .unwrap();
    assert_eq!(dead, 1);
    assert_eq!(state(&world, &event).await, None);
    assert!(mails(&world).is_empty());
}

#[tokio::test]
async fn a_template_that_nobody_knows_is_put_aside() {
    let world = World::start().await;
    let now = world.platform.clock().now();
    let request = request(
        &world,
        "../verify_email",
        "en",
        now + SignedDuration::from_hours(1),
    );
    world.platform.emit("", &request).await;
    let dead = platform::consumer::dead_letters(world.db.reader())
        .await
        .unwrap();
    assert_eq!(dead, 1);
}

#[tokio::test]
async fn a_mail_that_was_given_up_loses_its_secret_when_that_expires() {
    let world = World::start_on(
        platform::test_kit::TestPlatform::start_with_manual_clock().await,
        |config| config.mail.attempts = 1,
    )
    .await;
    std::fs::remove_dir_all(&world.config.mail.folder).unwrap();
    let event = verification(&world);
    world.platform.publish(event.clone()).await;
    let (sealed, _) = becomes(&world, &event, "failed").await;
    assert!(sealed.is_some());
    world
        .platform
        .manual_clock()
        .advance(SignedDuration::from_hours(25));
    let sealed = eventually(DEADLINE, || async {
        // The clock may have been moved in the midst of a round of trimming, which then sleeps from there.
        world
            .platform
            .manual_clock()
            .advance(SignedDuration::from_secs(601));
        let (state, sealed, _) = state(&world, &event).await?;
        (state == "expired").then_some(sealed)
    })
    .await;
    assert_eq!(sealed, None);
}
