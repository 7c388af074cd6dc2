use platform::grpc::client::as_user;
use proto::wallet::v1::{DepositPosted, DepositRequest, Money};
use tonic::Code;

use crate::helpers::{Wallet, fields, inr, reason};

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_is_posted_at_once_and_told_with_the_balance_after_it() {
    let wallet = Wallet::start().await;
    let asha = wallet.person("asha").await;
    let made = wallet
        .deposit(&asha, "k", 1250)
        .await
        .unwrap()
        .into_inner()
        .transaction
        .unwrap();
    assert_eq!(
        (made.kind.as_str(), made.status.as_str()),
        ("deposit", "posted")
    );
    assert_eq!(
        (made.direction.as_str(), made.category.as_str()),
        ("in", "deposit")
    );
    assert_eq!(made.from.unwrap().external, "sandbox");
    assert_eq!(made.to.unwrap().handle, asha.handle);
    assert_eq!(made.balance_after, Some(inr(1250)));
    assert_eq!(wallet.balance(&asha).await, 1250);

    let told = wallet.told::<DepositPosted>().await;
    let to = told[0].to.as_ref().unwrap();
    assert_eq!(
        (told.len(), told[0].transaction_id.as_str()),
        (1, made.id.as_str())
    );
    assert_eq!(
        (to.user_id.as_str(), to.version),
        (asha.id.to_string().as_str(), 1)
    );
    assert_eq!((to.posted_minor, to.available_minor), (1250, 1250));
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_source_is_named_and_burns_no_key() {
    let wallet = Wallet::start().await;
    let asha = wallet.person("asha").await;
    let request = DepositRequest {
        idempotency_key: "k".to_owned(),
        amount: Some(inr(100)),
        source: "piggy-bank".to_owned(),
        ..Default::default()
    };
    let refused = wallet
        .client
        .clone()
        .deposit(as_user(request, &asha.token))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["source"]);
    wallet.deposit(&asha, "k", 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn money_goes_to_own_accounts_in_its_own_currency_only() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.person("asha").await, wallet.person("ben").await);
    let (own, foreign) = (
        wallet.accounts(&asha).await[0].id.clone(),
        wallet.accounts(&ben).await[0].id.clone(),
    );
    let deposit = |key: &str, account: &str, currency: &str| {
        let request = DepositRequest {
            idempotency_key: key.to_owned(),
            amount: Some(Money {
                amount_minor: 5,
                currency: currency.to_owned(),
            }),
            account_id: account.to_owned(),
            ..Default::default()
        };
        let (mut client, request) = (wallet.client.clone(), as_user(request, &asha.token));
        async move { client.deposit(request).await }
    };
    let refused = deposit("a", &foreign, "INR").await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::NotFound, "not_found")
    );
    for (key, account) in [("b", ""), ("c", own.as_str())] {
        let refused = deposit(key, account, "USD").await.unwrap_err();
        assert_eq!(reason(&refused), "currency_mismatch");
    }
    deposit("d", &own, "INR").await.unwrap();
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (5, 0)
    );
    wallet.assert_sound().await;
}
