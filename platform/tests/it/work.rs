use platform::idempotency::{self, Claim, RequestKey};
use platform::test_kit::{TestPlatform, assert_clean};
use platform::work::{Begun, Work};
use platform::{Error, Kind, id, outbox};
use proto::identity::v1::{EmailVerified, GetProfileRequest, VerifyEmailRequest};
use sea_orm_migration::prelude::*;
use uuid::Uuid;

pub(crate) struct Tables;

impl MigratorTrait for Tables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        platform::migrations()
    }
}

async fn scene() -> (TestPlatform, Work) {
    let platform = TestPlatform::start().await;
    let db = platform.database::<Tables>("work").await;
    let work = Work::new("test", db, platform.clock());
    (platform, work)
}

fn key(user: Uuid, key: &str, token: &str) -> RequestKey {
    let request = VerifyEmailRequest {
        token: token.to_owned(),
    };
    RequestKey::parse(user, "Test", key, &request).expect("a well-formed key")
}

async fn answer(work: &Work, key: &RequestKey, reply: &[u8]) -> Result<(Vec<u8>, bool), Error> {
    match work.begin_once(key).await? {
        Begun::Replayed(answer) => Ok((answer?, true)),
        Begun::Fresh(mut unit) => {
            unit.store_answer(&Ok(reply.to_vec())).await?;
            unit.commit().await?;
            Ok((reply.to_vec(), false))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_is_replayed_whatever_the_second_would_have_been() {
    let (_platform, work) = scene().await;
    let key = key(Uuid::nil(), "k", "t");
    assert_eq!(
        answer(&work, &key, b"first").await.unwrap(),
        (b"first".to_vec(), false)
    );
    assert_eq!(
        answer(&work, &key, b"second").await.unwrap(),
        (b"first".to_vec(), true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_replayed_with_its_kind_reason_and_fields() {
    let (_platform, work) = scene().await;
    for (name, error) in [
        ("a", Error::conflict("insufficient_funds", "not enough")),
        ("b", Error::invalid_field("amount", "is odd")),
    ] {
        let key = key(Uuid::nil(), name, "t");
        let Begun::Fresh(mut unit) = work.begin_once(&key).await.unwrap() else {
            panic!("new")
        };
        unit.store_answer(&Err(error.clone())).await.unwrap();
        unit.commit().await.unwrap();
        let Begun::Replayed(Err(again)) = work.begin_once(&key).await.unwrap() else {
            panic!("replayed")
        };
        assert_eq!(again.kind(), error.kind());
        assert_eq!(again.reason(), error.reason());
        assert_eq!(again.violations(), error.violations());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_belongs_to_one_request_of_one_caller() {
    let (_platform, work) = scene().await;
    let (one, two) = (id::new(work.now()), id::new(work.now()));
    answer(&work, &key(one, "k", "t"), b"one").await.unwrap();
    let error = answer(&work, &key(one, "k", "other"), b"x")
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::KeyReused, "idempotency_key_reused")
    );
    assert_eq!(
        answer(&work, &key(two, "k", "t"), b"two").await.unwrap().0,
        b"two"
    );
    let other = RequestKey::parse(one, "Other", "k", &GetProfileRequest {}).unwrap();
    assert_eq!(answer(&work, &other, b"three").await.unwrap().0, b"three");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_at_once_one_does_the_work_and_all_get_its_answer() {
    let (_platform, work) = scene().await;
    let calls = (0..50_u8).map(|n| {
        let work = work.clone();
        async move {
            answer(&work, &key(Uuid::nil(), "k", "t"), &[n])
                .await
                .unwrap()
        }
    });
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert!(answers.iter().all(|(reply, _)| reply == &answers[0].0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_waits_for_the_first_and_then_gets_its_answer() {
    let (_platform, work) = scene().await;
    let key = key(Uuid::nil(), "k", "t");
    let Begun::Fresh(mut unit) = work.begin_once(&key).await.unwrap() else {
        panic!("new")
    };
    let mut second = Box::pin(answer(&work, &key, b"second"));
    assert!(futures::poll!(&mut second).is_pending());
    unit.store_answer(&Ok(b"first".to_vec())).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), (b"first".to_vec(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_leaves_no_key_and_no_event() {
    let (_platform, work) = scene().await;
    let key = key(Uuid::nil(), "k", "t");
    let Begun::Fresh(mut unit) = work.begin_once(&key).await.unwrap() else {
        panic!("new")
    };
    unit.emit("x", &EmailVerified::default());
    drop(unit);
    assert_eq!(outbox::unsent(work.db().reader()).await.unwrap(), 0);
    assert!(matches!(
        work.begin_once(&key).await.unwrap(),
        Begun::Fresh(_)
    ));
    assert_clean(work.db()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_key_without_an_answer_cannot_be_committed() {
    let (_platform, work) = scene().await;
    let key = key(Uuid::nil(), "k", "t");
    let Begun::Fresh(unit) = work.begin_once(&key).await.unwrap() else {
        panic!("new")
    };
    assert_eq!(unit.commit().await.unwrap_err().kind(), Kind::Internal);
    assert!(matches!(
        work.begin_once(&key).await.unwrap(),
        Begun::Fresh(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_claimed_in_one_call_with_an_outcome_each() {
    let (_platform, work) = scene().await;
    let old = key(Uuid::nil(), "old", "t");
    answer(&work, &old, b"kept").await.unwrap();
    let (a, b) = (key(Uuid::nil(), "a", "t"), key(Uuid::nil(), "b", "t"));
    let (a_other, old_other) = (key(Uuid::nil(), "a", "x"), key(Uuid::nil(), "old", "x"));
    let unit = work.begin().await.unwrap();
    // The last but one comes after a stranger with its key and still is the one that was answered before.
    let keys = [&b, &a, &old_other, &a, &a_other, &old, &old_other];
    let claims = idempotency::claim(unit.tx(), &keys, unit.now())
        .await
        .unwrap();
    assert!(matches!(claims[0], Claim::Fresh));
    assert!(matches!(claims[1], Claim::Fresh));
    assert!(matches!(claims[2], Claim::Reused));
    assert!(matches!(claims[3], Claim::Duplicate(1)));
    assert!(matches!(claims[4], Claim::Reused));
    assert!(matches!(&claims[5], Claim::Replayed(Ok(reply)) if reply == b"kept"));
    assert!(matches!(claims[6], Claim::Reused));
    let done = Ok(b"done".to_vec());
    idempotency::store(unit.tx(), &[(&a, &done), (&b, &done)], unit.now())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(
        answer(&work, &a, b"x").await.unwrap(),
        (b"done".to_vec(), true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_must_be_visible_ascii_of_bounded_length() {
    let request = GetProfileRequest {};
    for bad in ["", " ", "a b", "ä", "a\n", &"k".repeat(256)] {
        let error = RequestKey::parse(Uuid::nil(), "Test", bad, &request).unwrap_err();
        assert_eq!(error.violations()[0].field, "Idempotency-Key");
    }
    assert!(RequestKey::parse(Uuid::nil(), "Test", &"k".repeat(255), &request).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_down_and_up_again() {
    use platform::database::{Direction, migrate};
    let (_platform, work) = scene().await;
    for direction in [Direction::Down, Direction::Up, Direction::Up] {
        migrate::<Tables>(work.db(), direction).await.unwrap();
    }
    let status = migrate::<Tables>(work.db(), Direction::Status)
        .await
        .unwrap();
    assert!(status.starts_with("applied"), "{status}");
    answer(&work, &key(Uuid::nil(), "k", "t"), b"one")
        .await
        .unwrap();
}
