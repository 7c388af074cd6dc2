use std::sync::Arc;

use async_trait::async_trait;
use platform::consumer::Consumer;
use platform::event_bus::{Envelope, HandleError, Handler};
use platform::test_kit::envelope;
use platform::work::{UnitOfWork, Work};
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

/// Takes nothing: only there to put an event among the dead letters of the wallet.
struct Nobody;

#[async_trait]
impl Handler for Nobody {
    fn types(&self) -> &'static [&'static str] {
        &[]
    }

    async fn handle(&self, _: &mut UnitOfWork, _: &Envelope) -> Result<(), HandleError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_can_be_driven_again_once_its_cause_is_gone() {
    let wallet = Wallet::start().await;
    let asha = wallet.stranger("asha");
    let early = EmailVerified {
        user_id: asha.id.to_string(),
        version: 2,
    };
    let early = envelope(wallet.platform.clock().now(), asha.id, &early);
    let work = Work::new("wallet-service", wallet.db.clone(), wallet.platform.clock());
    let parking = Consumer::new("wallet.users", work, Arc::new(Nobody));
    parking.park(&early, "the user is not known").await.unwrap();

    let config = WalletConfig {
        database: wallet.platform.database_config("wallet"),
        ..Default::default()
    };
    let handles = wallet.platform.handles();
    let redrive = || wallet_service::redrive(&config, &handles);
    assert_eq!(redrive().await.unwrap(), 0, "its cause is still there");
    wallet.platform.publish(wallet.registered(&asha)).await;
    assert_eq!(redrive().await.unwrap(), 1);
    assert_eq!(redrive().await.unwrap(), 0);
    wallet.assert_sound().await;
}
