use proto::wallet::v1::payee::By;
use proto::wallet::v1::{TransferPosted, TransferRefused};
use tonic::Code;
use uuid::Uuid;

use crate::helpers::{Wallet, inr, reason, transfer};

#[tokio::test(flavor = "multi_thread")]
async fn a_payee_is_found_by_handle_mail_address_and_id() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    let names = [
        By::Handle(ben.handle.to_lowercase()),
        By::Handle(spaced(&ben.handle, " ")),
        By::Handle(spaced(&ben.handle, "-")),
        By::Email(format!("  {} ", ben.email.to_uppercase())),
        By::UserId(ben.id.to_string()),
    ];
    for (n, by) in names.into_iter().enumerate() {
        let mut request = transfer(&format!("k{n}"), by, 100);
        request.description = "Thank you \u{1f64f}".to_owned();
        request.category = "pets".to_owned();
        let made = wallet
            .transfer(&asha, request)
            .await
            .unwrap()
            .into_inner()
            .transaction
            .unwrap();
        assert_eq!(
            (made.status.as_str(), made.direction.as_str()),
            ("posted", "out")
        );
        assert_eq!(made.to.as_ref().unwrap().handle, ben.handle);
        assert_eq!(
            made.to.unwrap().account_id,
            "",
            "the account of the other side is not shown"
        );
        assert_eq!(
            (made.description.as_str(), made.category.as_str()),
            ("Thank you \u{1f64f}", "pets")
        );
    }
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (500, 500)
    );
    wallet.assert_sound().await;
}

/// As people write it down: KX 4821 0735.
fn spaced(handle: &str, separator: &str) -> String {
    let (letters, digits) = handle.split_at(2);
    let (left, right) = digits.split_at(4);
    [letters, left, right].join(separator)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_claims_an_address_is_not_paid_by_it() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 100).await, wallet.stranger("ben"));
    wallet.platform.publish(wallet.registered(&ben)).await;
    let by_mail = |key: &str| transfer(key, By::Email(ben.email.clone()), 10);
    let refused = wallet.transfer(&asha, by_mail("a")).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::NotFound, "payee_not_found")
    );
    wallet.pay(&asha, &ben, "b", 10).await.unwrap();
    let by_id = transfer("c", By::UserId(ben.id.to_string()), 10);
    wallet.transfer(&asha, by_id).await.unwrap();

    wallet.platform.publish(wallet.verified(&ben)).await;
    wallet.transfer(&asha, by_mail("d")).await.unwrap();
    assert_eq!(wallet.balance(&ben).await, 30);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_was_taken_anew_belongs_to_the_newest_who_confirmed_it() {
    let wallet = Wallet::start().await;
    let (asha, old) = (wallet.rich("asha", 100).await, wallet.person("old").await);
    let mut new = wallet.stranger("new");
    new.email = old.email.clone();
    let by_mail = |key: &str| transfer(key, By::Email(old.email.clone()), 10);
    wallet.platform.publish(wallet.registered(&new)).await;
    wallet.transfer(&asha, by_mail("a")).await.unwrap();
    wallet.platform.publish(wallet.verified(&new)).await;
    wallet.transfer(&asha, by_mail("b")).await.unwrap();
    assert_eq!(
        (wallet.balance(&old).await, wallet.balance(&new).await),
        (10, 10)
    );
    let parked = platform::consumer::dead_letters(wallet.db.reader());
    assert_eq!(parked.await.unwrap(), 0);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_tells_both_sides_as_they_stand_after_it() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    wallet.pay(&asha, &ben, "k", 300).await.unwrap();
    let told = wallet.told::<TransferPosted>().await;
    assert_eq!(told.len(), 1);
    let (from, to) = (told[0].from.as_ref().unwrap(), told[0].to.as_ref().unwrap());
    assert_eq!(
        (from.user_id.clone(), from.version, from.available_minor),
        (asha.id.to_string(), 2, 700)
    );
    assert_eq!(
        (to.user_id.clone(), to.version, to.available_minor),
        (ben.id.to_string(), 1, 300)
    );
    assert_eq!(told[0].category, "transfer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_moves_nothing_and_is_told_and_kept() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 100).await, wallet.person("ben").await);
    let nobody = By::UserId(Uuid::from_u128(1).to_string());
    let own = By::Handle(asha.handle.clone());
    let mut dollars = transfer("d", By::UserId(ben.id.to_string()), 5);
    dollars.amount.as_mut().unwrap().currency = "USD".to_owned();
    let cases = [
        (
            transfer("a", By::Email(ben.email.clone()), 101),
            "insufficient_funds",
        ),
        (transfer("b", nobody, 1), "payee_not_found"),
        (transfer("c", own, 1), "self_transfer"),
        (dollars, "currency_mismatch"),
        (
            transfer("e", By::Handle("ZZ999".to_owned()), 1),
            "payee_not_found",
        ),
        (
            transfer("f", By::Email("nobody@example.com".to_owned()), 1),
            "payee_not_found",
        ),
    ];
    for (request, expected) in &cases {
        let refused = wallet.transfer(&asha, request.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), *expected);
        let code = match *expected {
            "payee_not_found" => Code::NotFound,
            _ => Code::FailedPrecondition,
        };
        assert_eq!(refused.code(), code);
    }
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (100, 0)
    );
    let told = wallet.told::<TransferRefused>().await;
    assert_eq!(told.len(), cases.len());
    assert!(told.iter().all(|one| one.user_id == asha.id.to_string()));

    let mine = wallet
        .history(&asha, Default::default())
        .await
        .unwrap()
        .transactions;
    let refused: Vec<_> = mine.iter().filter(|one| one.status == "refused").collect();
    assert_eq!(refused.len(), cases.len());
    assert!(
        refused
            .iter()
            .all(|one| !one.reason.is_empty() && one.balance_after.is_none())
    );
    let theirs = wallet
        .history(&ben, Default::default())
        .await
        .unwrap()
        .transactions;
    assert!(
        theirs.is_empty(),
        "a payee does not learn of what the payer could not pay"
    );
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_user_takes_money_but_does_not_send_it_and_keeps_the_key() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 100).await, wallet.person("ben").await);
    let mut claims = wallet.platform.claims(asha.id);
    claims.email_verified = false;
    let mut unconfirmed = asha.clone();
    unconfirmed.token = wallet.platform.token_with(&claims);
    let refused = wallet.pay(&unconfirmed, &ben, "k", 10).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "email_not_verified")
    );
    wallet.deposit(&unconfirmed, "more", 10).await.unwrap();
    // The same key works once the address is confirmed.
    wallet.pay(&asha, &ben, "k", 10).await.unwrap();
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (100, 10)
    );
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_can_be_spent_to_the_last_unit() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 100).await, wallet.person("ben").await);
    let made = wallet
        .pay(&asha, &ben, "k", 100)
        .await
        .unwrap()
        .into_inner()
        .transaction
        .unwrap();
    assert_eq!(made.balance_after, Some(inr(0)));
    assert_eq!(
        reason(&wallet.pay(&asha, &ben, "l", 1).await.unwrap_err()),
        "insufficient_funds"
    );
    wallet.assert_sound().await;
}
