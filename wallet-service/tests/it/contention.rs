use sea_orm::ConnectionTrait;
use tonic::Code;
use wallet_service::{PosterConfig, verify_ledger};

use crate::helpers::{Person, Wallet, all, reason};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_transfers_between_few_accounts_keep_every_unit() {
    let wallet = Wallet::start().await;
    let mut people: Vec<Person> = Vec::new();
    for name in ["asha", "ben", "chi", "dev"] {
        people.push(wallet.rich(name, 500).await);
    }
    let calls = (0..200_usize).map(|n| {
        let (payer, payee) = (&people[n % 4], &people[(n + 1 + n % 3) % 4]);
        let (wallet, minor) = (&wallet, 1 + i64::try_from(n * 7 % 150).unwrap());
        async move { wallet.pay(payer, payee, &format!("k{n}"), minor).await }
    });
    for outcome in all(calls).await {
        if let Err(refused) = outcome {
            assert_eq!(reason(&refused), "insufficient_funds");
        }
    }
    let mut sum = 0;
    for person in &people {
        let balance = wallet.balance(person).await;
        assert!(balance >= 0);
        sum += balance;
    }
    assert_eq!(sum, 2000);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_retries_on_one_account_pays_each_key_once() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (
        wallet.rich("asha", 100_000).await,
        wallet.person("ben").await,
    );
    // 30 payments, each sent 20 times at once.
    let calls = (0..600).map(|n| {
        let (wallet, asha, ben) = (&wallet, &asha, &ben);
        async move {
            wallet
                .pay(asha, ben, &format!("k{}", n % 30), 1 + n % 30)
                .await
        }
    });
    for outcome in all(calls).await {
        outcome.unwrap();
    }
    let paid: i64 = (1..=30).sum();
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (100_000 - paid, paid)
    );
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_queue_holds_is_told_to_come_back() {
    let wallet = Wallet::start_with(PosterConfig {
        batch: 4,
        queue: 4,
        ..PosterConfig::default()
    })
    .await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    let other = wallet.hold_keys().await;
    let calls = all((0..60).map(|n| {
        let (wallet, asha, ben) = (&wallet, &asha, &ben);
        async move { wallet.pay(asha, ben, &format!("k{n}"), 1).await }
    }));
    let release = async {
        tokio::task::yield_now().await;
        platform::test_kit::eventually(crate::helpers::PATIENCE, || async {
            // All calls are under way once the service answers another one.
            wallet.accounts(&asha).await.len() == 1
        })
        .await;
        other.rollback().await.unwrap();
    };
    let (outcomes, ()) = tokio::join!(calls, release);
    let (mut paid, mut turned_away) = (0, 0);
    for outcome in outcomes {
        match outcome {
            Ok(_) => paid += 1,
            Err(status) => {
                assert_eq!(
                    (status.code(), reason(&status).as_str()),
                    (Code::Unavailable, "overloaded")
                );
                assert!(
                    platform::Error::from_status(&status)
                        .retry_after()
                        .is_some()
                );
                turned_away += 1;
            }
        }
    }
    assert!(turned_away > 0, "the queue is small enough to fill");
    assert_eq!(wallet.balance(&ben).await, paid);
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_done_fails_alone() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    let broken = wallet.rich("broken", 1000).await;
    // A row that the ledger cannot read.
    let unit = wallet.db.begin().await.unwrap();
    unit.execute_unprepared(
        "UPDATE accounts SET currency = '???' WHERE user_id = \
         (SELECT user_id FROM payees WHERE handle LIKE 'BROKEN%')",
    )
    .await
    .unwrap();
    unit.commit().await.unwrap();
    let calls = (0..40).map(|n| {
        let payer = if n == 17 { &broken } else { &asha };
        let (wallet, ben) = (&wallet, &ben);
        async move { wallet.pay(payer, ben, &format!("k{n}"), 1).await }
    });
    for (n, outcome) in all(calls).await.into_iter().enumerate() {
        match n {
            17 => assert_eq!(outcome.unwrap_err().code(), Code::Internal),
            _ => drop(outcome.unwrap()),
        }
    }
    assert_eq!(wallet.balance(&ben).await, 39);
    let report = verify_ledger(&wallet.db).await.unwrap();
    assert!(
        report
            .differences
            .iter()
            .all(|one| one.check.contains("currency")),
        "only the sums by the spoilt currency are off: {report}"
    );
}
