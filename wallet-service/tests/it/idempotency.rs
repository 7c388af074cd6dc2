use std::time::Duration;

use platform::grpc::client::as_user;
use platform::grpc::is_replayed;
use platform::test_kit::eventually;
use proto::wallet::v1::payee::By;
use proto::wallet::v1::{TransferPosted, TransferRefused};
use tonic::Code;

use crate::helpers::{PATIENCE, Wallet, all, reason, transfer};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_twice_pays_once_and_gives_the_first_answer_again() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    let first = wallet.pay(&asha, &ben, "k", 100).await.unwrap();
    assert!(!is_replayed(first.metadata()));
    let again = wallet.pay(&asha, &ben, "k", 100).await.unwrap();
    assert!(is_replayed(again.metadata()));
    assert_eq!(first.into_inner(), again.into_inner());
    assert_eq!(wallet.balance(&ben).await, 100);
    assert_eq!(wallet.told::<TransferPosted>().await.len(), 1);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_with_one_key_pay_once() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    let answers = all((0..50).map(|_| wallet.pay(&asha, &ben, "k", 100))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        answers
            .iter()
            .filter(|one| !is_replayed(one.metadata()))
            .count(),
        1
    );
    let id = answers[0]
        .get_ref()
        .transaction
        .as_ref()
        .unwrap()
        .id
        .clone();
    assert!(
        answers
            .iter()
            .all(|one| one.get_ref().transaction.as_ref().unwrap().id == id)
    );
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (900, 100)
    );
    assert_eq!(wallet.told::<TransferPosted>().await.len(), 1);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_not_work_for_another_request_alone_or_in_a_crowd() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    wallet.pay(&asha, &ben, "k", 100).await.unwrap();
    let refused = wallet.pay(&asha, &ben, "k", 101).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "idempotency_key_reused")
    );
    // One of two wins; which one is open, but only that one is done.
    let crowd = all((0..40).map(|n| wallet.pay(&asha, &ben, "crowd", 1 + n % 2))).await;
    let paid: Vec<i64> = crowd
        .iter()
        .flatten()
        .map(|one| {
            one.get_ref()
                .transaction
                .as_ref()
                .unwrap()
                .amount
                .as_ref()
                .unwrap()
                .amount_minor
        })
        .collect();
    assert_eq!(paid.len(), 20);
    assert!(paid.iter().all(|minor| *minor == paid[0]));
    assert!(
        crowd
            .iter()
            .filter_map(|one| one.as_ref().err())
            .all(|s| s.code() == Code::AlreadyExists)
    );
    assert_eq!(wallet.balance(&ben).await, 100 + paid[0]);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_belongs_to_one_user_and_one_method() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (
        wallet.rich("asha", 1000).await,
        wallet.rich("ben", 1000).await,
    );
    wallet.pay(&asha, &ben, "k", 100).await.unwrap();
    wallet.pay(&ben, &asha, "k", 50).await.unwrap();
    wallet.deposit(&asha, "k", 7).await.unwrap();
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (957, 1050)
    );
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_the_answer_of_its_key_even_when_it_could_be_granted_later() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 10).await, wallet.person("ben").await);
    let first = wallet.pay(&asha, &ben, "k", 100).await.unwrap_err();
    wallet.deposit(&asha, "more", 1000).await.unwrap();
    let again = wallet.pay(&asha, &ben, "k", 100).await.unwrap_err();
    assert_eq!(
        (reason(&first), reason(&again)),
        ("insufficient_funds".into(), reason(&first))
    );
    assert_eq!(
        (first.code(), first.message()),
        (again.code(), again.message())
    );
    assert!(!is_replayed(first.metadata()) && is_replayed(again.metadata()));
    assert_eq!(wallet.balance(&ben).await, 0);
    assert_eq!(wallet.told::<TransferRefused>().await.len(), 1);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_burns_no_key() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    let refused = wallet.pay(&asha, &ben, "k", -5).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    wallet.pay(&asha, &ben, "k", 5).await.unwrap();
    assert_eq!(wallet.balance(&ben).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_cannot_wait_is_told_that_the_key_is_safe() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    // Somebody else is at work for a while, so that the transfer cannot commit in time.
    let other = wallet.hold_keys().await;
    let mut hurried = as_user(
        transfer("k", By::Handle(ben.handle.clone()), 100),
        &asha.token,
    );
    hurried.set_timeout(Duration::from_millis(300));
    let status = wallet.client.clone().transfer(hurried).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "outcome_unknown")
    );
    let patient = wallet.pay(&asha, &ben, "k", 100);
    let impatient = async {
        eventually(PATIENCE, || async {
            let mut twin = as_user(
                transfer("k", By::Handle(ben.handle.clone()), 100),
                &asha.token,
            );
            twin.set_timeout(Duration::from_millis(100));
            let status = wallet.client.clone().transfer(twin).await.unwrap_err();
            // Whichever came first has an open outcome; the one that came later knows of the other.
            reason(&status) == "request_in_progress"
        })
        .await;
        other.rollback().await.unwrap();
    };
    let (patient, ()) = tokio::join!(patient, impatient);
    patient.unwrap();
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (900, 100)
    );
    wallet.assert_sound().await;
}
