use platform::test_kit::envelope;
use proto::identity::v1::{EmailVerified, UserRegistered};
use proto::wallet::v1::{AccountOpened, DepositPosted, TransferPosted, TransferRefused};
use wallet_service::WalletConfig;

use crate::helpers::{Wallet, all};

#[tokio::test(flavor = "multi_thread")]
async fn each_commit_is_told_once_and_versions_rise_without_gaps() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 100).await, wallet.person("ben").await);
    let outcomes = all((0..60).map(|n| {
        let (wallet, asha, ben) = (&wallet, &asha, &ben);
        async move { wallet.pay(asha, ben, &format!("k{n}"), 3).await }
    }))
    .await;
    let paid = outcomes.iter().flatten().count();
    assert_eq!(paid, 33);
    let posted = wallet.told::<TransferPosted>().await;
    assert_eq!(posted.len(), paid);
    assert_eq!(wallet.told::<TransferRefused>().await.len(), 60 - paid);
    assert_eq!(wallet.told::<DepositPosted>().await.len(), 1);
    assert_eq!(wallet.told::<AccountOpened>().await.len(), 2);

    let mut versions: Vec<i64> = posted
        .iter()
        .map(|one| one.to.as_ref().unwrap().version)
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=33).collect::<Vec<_>>());
    for one in &posted {
        let (from, to) = (one.from.as_ref().unwrap(), one.to.as_ref().unwrap());
        assert_eq!(from.posted_minor + to.posted_minor, 100);
        assert_eq!(to.posted_minor, to.version * 3);
    }
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_makes_no_sense_is_parked_and_stops_nobody() {
    let wallet = Wallet::start().await;
    let now = wallet.platform.clock().now();
    let nonsense = UserRegistered {
        user_id: "me".to_owned(),
        ..Default::default()
    };
    wallet
        .platform
        .publish(envelope(now, "me", &nonsense))
        .await;
    let asha = wallet.person("asha").await;
    assert_eq!(wallet.accounts(&asha).await.len(), 1);
    assert_eq!(
        platform::consumer::dead_letters(wallet.db.reader())
            .await
            .unwrap(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_can_be_driven_again_once_its_cause_is_gone() {
    let wallet = Wallet::start().await;
    let asha = wallet.stranger("asha");
    // Nobody ever told of this user, so the bus gives up after a while.
    let early = EmailVerified {
        user_id: asha.id.to_string(),
        version: 2,
    };
    wallet
        .platform
        .publish(envelope(wallet.platform.clock().now(), asha.id, &early))
        .await;
    assert_eq!(
        platform::consumer::dead_letters(wallet.db.reader())
            .await
            .unwrap(),
        1
    );
    wallet.platform.publish(wallet.registered(&asha)).await;
    let config = WalletConfig {
        database: wallet.platform.database_config("wallet"),
        ..Default::default()
    };
    let done = wallet_service::redrive(&config, &wallet.platform.handles())
        .await
        .unwrap();
    assert_eq!(done, 1);
    wallet.assert_sound().await;
}
