use std::time::Duration;

use platform::idempotency::RequestKey;
use platform::maintenance::{self, KEY_RETENTION};
use platform::test_kit::TestPlatform;
use platform::work::{Begun, Work};
use proto::identity::v1::VerifyEmailRequest;
use sea_orm::{ConnectionTrait, DbBackend};
use uuid::Uuid;

use crate::work::Tables;

async fn scene() -> (TestPlatform, Work) {
    let platform = TestPlatform::start_with_manual_clock().await;
    let db = platform.database::<Tables>("work").await;
    let work = Work::new("test", db, platform.clock());
    (platform, work)
}

fn key(n: usize) -> RequestKey {
    let request = VerifyEmailRequest::default();
    RequestKey::parse(Uuid::nil(), "Test", &format!("k{n}"), &request).unwrap()
}

async fn answer_all(work: &Work, count: usize) {
    let keys: Vec<RequestKey> = (0..count).map(key).collect();
    let unit = work.begin().await.unwrap();
    let all: Vec<&RequestKey> = keys.iter().collect();
    platform::idempotency::claim(unit.tx(), &all, unit.now())
        .await
        .unwrap();
    let answer = Ok(b"done".to_vec());
    let answers: Vec<_> = all.iter().map(|&key| (key, &answer)).collect();
    platform::idempotency::store(unit.tx(), &answers, unit.now())
        .await
        .unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_forget_at_once_forget_each_key_once_and_nothing_else() {
    let (platform, work) = scene().await;
    answer_all(&work, 2_500).await;
    let past = KEY_RETENTION + Duration::from_secs(1);
    platform.manual_clock().advance(past.try_into().unwrap());
    // Still young.
    let unit = work.begin().await.unwrap();
    platform::idempotency::claim(unit.tx(), &[&key(9_999)], unit.now())
        .await
        .unwrap();
    let kept = Ok(b"kept".to_vec());
    platform::idempotency::store(unit.tx(), &[(&key(9_999), &kept)], unit.now())
        .await
        .unwrap();
    unit.commit().await.unwrap();

    let rounds = (0..4).map(|_| maintenance::run(&work));
    let mut gone = 0;
    for round in futures::future::join_all(rounds).await {
        gone += round.unwrap();
    }
    // What one held while another looked is left to the next round.
    gone += maintenance::run(&work).await.unwrap();
    assert_eq!(gone, 2_500);
    let Begun::Replayed(Ok(answer)) = work.begin_once(&key(9_999)).await.unwrap() else {
        panic!("kept")
    };
    assert_eq!(answer, b"kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_holds_is_left_to_the_next_round() {
    let (platform, work) = scene().await;
    answer_all(&work, 3).await;
    let past = KEY_RETENTION + Duration::from_secs(1);
    platform.manual_clock().advance(past.try_into().unwrap());
    if work.db().backend() == DbBackend::Postgres {
        let holder = work.db().begin().await.unwrap();
        holder
            .execute_unprepared("SELECT 1 FROM idempotency_keys WHERE key = 'k1' FOR UPDATE")
            .await
            .unwrap();
        assert_eq!(maintenance::run(&work).await.unwrap(), 2);
        holder.rollback().await.unwrap();
        assert_eq!(maintenance::run(&work).await.unwrap(), 1);
    } else {
        // A file has one writer, so nobody holds anything meanwhile.
        assert_eq!(maintenance::run(&work).await.unwrap(), 3);
    }
    assert_eq!(maintenance::run(&work).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_forgotten_while_it_comes_again_is_new() {
    let (platform, work) = scene().await;
    answer_all(&work, 1).await;
    let past = KEY_RETENTION + Duration::from_secs(1);
    platform.manual_clock().advance(past.try_into().unwrap());
    let key = key(0);
    for _ in 0..20 {
        let again = async {
            match work.begin_once(&key).await.unwrap() {
                Begun::Replayed(answer) => Some(answer.unwrap()),
                Begun::Fresh(_unit) => None,
            }
        };
        let (round, found) = tokio::join!(maintenance::run(&work), again);
        round.unwrap();
        // Before it is forgotten the old answer stands, afterwards the key is free; never anything else.
        assert!(found.is_none_or(|answer| answer == b"done"));
        answer_all_again(&work).await;
    }
}

/// Answers the key as one of long ago, so that it is due to be forgotten.
async fn answer_all_again(work: &Work) {
    maintenance::run(work).await.unwrap();
    answer_all(work, 1).await;
    let unit = work.begin().await.unwrap();
    unit.tx()
        .execute_unprepared("UPDATE idempotency_keys SET \"at\" = 0")
        .await
        .unwrap();
    unit.commit().await.unwrap();
}
