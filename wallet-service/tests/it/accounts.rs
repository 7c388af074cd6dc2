use platform::grpc::client::as_user;
use proto::wallet::v1::{AccountOpened, GetAccountRequest, OpenAccountRequest};
use tonic::Code;

use crate::helpers::{Person, Wallet, all, reason};

fn open(person: &Person, key: &str, currency: &str) -> tonic::Request<OpenAccountRequest> {
    let request = OpenAccountRequest {
        idempotency_key: key.to_owned(),
        currency: currency.to_owned(),
    };
    as_user(request, &person.token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_registered_has_one_account_however_often_it_is_told() {
    let wallet = Wallet::start().await;
    let asha = wallet.stranger("asha");
    let told = wallet.registered(&asha);
    // The same event again, and the same fact in another event.
    for event in [told.clone(), told, wallet.registered(&asha)] {
        wallet.platform.publish(event).await;
    }
    let accounts = wallet.accounts(&asha).await;
    assert_eq!(accounts.len(), 1);
    assert_eq!(
        (accounts[0].currency.as_str(), accounts[0].version),
        ("INR", 0)
    );
    assert_eq!(accounts[0].status, "open");
    assert_eq!(wallet.told::<AccountOpened>().await.len(), 1);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_address_may_be_told_before_the_registration() {
    let wallet = Wallet::start().await;
    let asha = wallet.stranger("asha");
    let verified = wallet.verified(&asha);
    let registered = wallet.registered(&asha);
    tokio::join!(
        wallet.platform.publish(verified),
        wallet.platform.publish(registered)
    );
    assert_eq!(wallet.accounts(&asha).await.len(), 1);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_currency_is_opened_once_however_many_ask() {
    let wallet = Wallet::start().await;
    let asha = wallet.person("asha").await;
    let calls = (0..20).map(|n| {
        let mut client = wallet.client.clone();
        let request = open(&asha, &format!("key-{}", n % 5), "USD");
        async move {
            client
                .open_account(request)
                .await
                .unwrap()
                .into_inner()
                .account
                .unwrap()
                .id
        }
    });
    let mut ids = all(calls).await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(wallet.accounts(&asha).await.len(), 2);
    let told = wallet.told::<AccountOpened>().await;
    assert_eq!(told.iter().filter(|one| one.currency == "USD").count(), 1);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_event_has_arrived_the_caller_is_told_to_come_back_and_the_key_is_kept() {
    let wallet = Wallet::start().await;
    let asha = wallet.stranger("asha");
    for status in [
        wallet.deposit(&asha, "k", 100).await.unwrap_err(),
        wallet.pay(&asha, &asha, "k", 100).await.unwrap_err(),
        wallet
            .client
            .clone()
            .open_account(open(&asha, "k", "USD"))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unavailable, "account_not_ready")
        );
        assert!(
            platform::Error::from_status(&status)
                .retry_after()
                .is_some()
        );
    }
    assert!(wallet.accounts(&asha).await.is_empty());
    wallet.platform.publish(wallet.registered(&asha)).await;
    wallet.deposit(&asha, "k", 100).await.unwrap();
    assert_eq!(wallet.balance(&asha).await, 100);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_shown_to_its_owner_alone() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.person("asha").await, wallet.person("ben").await);
    let account_id = wallet.accounts(&asha).await[0].id.clone();
    let get = |person: &Person| {
        let request = as_user(
            GetAccountRequest {
                account_id: account_id.clone(),
            },
            &person.token,
        );
        let mut client = wallet.client.clone();
        async move { client.get_account(request).await }
    };
    assert_eq!(
        get(&asha).await.unwrap().into_inner().account.unwrap().id,
        account_id
    );
    assert_eq!(get(&ben).await.unwrap_err().code(), Code::NotFound);
}
