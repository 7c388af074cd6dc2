use platform::database::{Database, Direction};
use platform::test_kit::TestPlatform;
use sea_orm::ConnectionTrait;
use wallet_service::{WalletConfig, verify_ledger};

use crate::helpers::Wallet;

async fn tamper(wallet: &Wallet, statements: &[&str]) {
    let tx = wallet.db.begin().await.unwrap();
    for statement in statements {
        tx.execute_unprepared(statement).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn differences(wallet: &Wallet) -> Vec<&'static str> {
    let report = verify_ledger(&wallet.db).await.unwrap();
    let mut checks: Vec<_> = report.differences.iter().map(|one| one.check).collect();
    checks.dedup();
    checks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_ledger_adds_up_and_is_counted() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    wallet.pay(&asha, &ben, "k", 300).await.unwrap();
    wallet.pay(&asha, &ben, "l", 3000).await.unwrap_err();
    let report = verify_ledger(&wallet.db).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        (report.accounts, report.transactions, report.entries),
        (3, 3, 4)
    );
    let total = &report.totals[0];
    assert_eq!((total.currency.as_str(), report.totals.len()), ("INR", 1));
    assert_eq!(
        (total.users_minor, total.external_minor, total.entries_minor),
        (1000, -1000, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_touches_a_balance_is_found_out() {
    let wallet = Wallet::start().await;
    wallet.rich("asha", 1000).await;
    tamper(
        &wallet,
        &["UPDATE accounts SET posted_minor = 5000 WHERE user_id IS NOT NULL"],
    )
    .await;
    assert_eq!(
        differences(&wallet).await,
        [
            "balances_of_a_currency_sum_to_zero",
            "balances_and_versions_equal_the_entries"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_removes_a_transaction_is_found_out() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    wallet.pay(&asha, &ben, "k", 300).await.unwrap();
    // A refusal has no entries that would miss it.
    wallet.pay(&asha, &ben, "l", 3000).await.unwrap_err();
    tamper(&wallet, &["DELETE FROM transactions"]).await;
    assert_eq!(
        differences(&wallet).await,
        [
            "entries_belong_to_a_transaction",
            "every_answered_key_has_one_transaction"
        ]
    );
    let report = verify_ledger(&wallet.db).await.unwrap();
    let mut keys: Vec<_> = report
        .differences
        .into_iter()
        .filter(|one| one.check == "every_answered_key_has_one_transaction")
        .map(|one| one.detail)
        .collect();
    keys.sort();
    let told = |method| format!("a key of {}/{method} stands for 0 transactions", asha.id);
    assert_eq!(keys, [told("deposit"), told("transfer"), told("transfer")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_keeps_entries_as_they_are_and_balances_above_their_floor() {
    let wallet = Wallet::start().await;
    wallet.rich("asha", 1000).await;
    for statement in [
        "UPDATE entries SET amount_minor = amount_minor * 2",
        "DELETE FROM entries",
        "UPDATE accounts SET posted_minor = -1 WHERE user_id IS NOT NULL",
    ] {
        let tx = wallet.db.begin().await.unwrap();
        assert!(
            tx.execute_unprepared(statement).await.is_err(),
            "{statement}"
        );
        tx.rollback().await.unwrap();
    }
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_goes_up_and_down_and_up_again() {
    let platform = TestPlatform::start().await;
    let config = WalletConfig {
        database: platform.database_config("wallet"),
        ..WalletConfig::default()
    };
    let up = wallet_service::migrate(&config, Direction::Up)
        .await
        .unwrap();
    let migrations = up.lines().count();
    assert!(up.lines().all(|line| line.starts_with("applied")), "{up}");
    for _ in 0..migrations {
        wallet_service::migrate(&config, Direction::Down)
            .await
            .unwrap();
    }
    let none = wallet_service::migrate(&config, Direction::Status)
        .await
        .unwrap();
    assert!(
        none.lines().all(|line| line.starts_with("pending")),
        "{none}"
    );
    let db = Database::connect(&config.database).await.unwrap();
    let nothing = verify_ledger(&db).await.unwrap_err();
    assert_eq!(nothing.reason(), "no_ledger");
    wallet_service::migrate(&config, Direction::Up)
        .await
        .unwrap();
    assert!(verify_ledger(&db).await.unwrap().is_clean());
}
