//! What survives a restart, and what two processes on one folder do.

use launcher::up;
use serde_json::Value;

use crate::common::people::{arrive_with, balance};
use crate::common::together;
use crate::support::process::Process;
use crate::support::product::Product;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_sessions_and_money_survive_a_restart() {
    let product = Product::start().await;
    let asha = arrive_with(&product.api(), &mut product.mailbox(), "Asha", 4_200).await;
    let keys = jwks(&product).await;

    let product = product.restart().await;
    let asha = asha.moved_to(&product.api());
    assert_eq!(jwks(&product).await, keys, "the signing keys");
    asha.me().await.expect("the access token is still good");
    assert_eq!(balance(&asha).await, 4_200);
    let again = product
        .api()
        .refresh(&asha.tokens.refresh_token)
        .await
        .expect("it is still good");
    assert_eq!(again.user().id, asha.user().id);
    product.stop().await;
}

async fn jwks(product: &Product) -> Value {
    let api = product.api();
    let request = api.request(reqwest::Method::GET, "/.well-known/jwks.json");
    api.send(request).await.expect("the keys are public").body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let _machine = together().await;
    let mut first = Process::new(&folder.path().join("data"), &[]);
    first.start().await;
    let second = Process::new(first.data(), &[]);
    let output = second.run(&["up"]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "the second one runs");
    assert!(told.contains("another coffer already runs"), "{told}");
    first
        .api()
        .ready()
        .await
        .expect("the first one does not care");
    assert!(first.terminate().await.success(), "{}", first.log_tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_told_at_once() {
    let product = Product::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Product::config(folder.path());
    config.http_listen = product
        .api()
        .base()
        .trim_start_matches("http://")
        .to_owned();
    let refused = up::start(config, product.clock())
        .await
        .err()
        .expect("the port is taken");
    assert!(
        format!("{refused:#}").contains("COFFER_HTTP_LISTEN"),
        "{refused:#}"
    );
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_problems_of_a_configuration_are_told_at_once_with_exit_code_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = [
        ("COFFER_WALLET__DATABASE__MAX_CONNECTIONS", "0"),
        ("COFFER_COLOUR", "blue"),
    ];
    let process = Process::new(folder.path(), &wrong);
    let output = process.run(&["check-config"]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains("colour"), "{told}");

    let wrong = [
        ("COFFER_WALLET__DATABASE__MAX_CONNECTIONS", "0"),
        ("COFFER_NOTIFY__DATABASE__URL", "mysql://nowhere"),
    ];
    let process = Process::new(folder.path(), &wrong);
    let output = process.run(&["check-config"]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains("wallet.database.max_connections"), "{told}");
    assert!(told.contains("notify.database.url"), "{told}");
}
