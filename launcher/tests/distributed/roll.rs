//! New versions are rolled out replica by replica: nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use launcher::client::Money;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::common::people::{arrive, arrive_all, balance, key};

const PAYERS: usize = 6;
/// Of each payer.
const CALLERS: usize = 4;
/// Keeps each payer below the quota of a user, which holds here too.
const PAUSE: Duration = Duration::from_millis(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_every_service_is_rolled() {
    let cluster = Cluster::shared().await;
    let mut mailbox = cluster.mailbox();
    let payers = arrive_all(&cluster.api(), &mut mailbox, PAYERS, 1_000_000).await;
    let payee = arrive(&cluster.api(), &mut mailbox, "Quinn").await;
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for payer in payers.iter().flat_map(|payer| [payer; CALLERS]) {
        let (payer, handle) = (payer.clone(), payee.user().handle.clone());
        let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
        callers.spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                payer.accounts().await.expect("reads go on");
                payer
                    .transfer(&key(), &handle, &Money::inr(1), "While you roll")
                    .await
                    .expect("payments go on");
                sent += 1;
                calls.fetch_add(2, Ordering::Relaxed);
                sleep(PAUSE).await;
            }
            sent
        });
    }
    for service in [
        "auth-service",
        "wallet-service",
        "notify-service",
        "scheduler-service",
    ] {
        for replica in 1..=2 {
            let name = format!("{service}-{replica}");
            cluster.stop(&name).await;
            let log = cluster.log_tail(&name);
            assert!(
                log.contains("stopped"),
                "{name} did not end cleanly:\n{log}"
            );
            cluster.start_and_wait(&name).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let sent: i64 = callers.join_all().await.into_iter().sum();
    println!(
        "{} calls while eight replicas were rolled",
        calls.load(Ordering::Relaxed)
    );
    assert!(sent > 0);
    assert_eq!(balance(&payee).await, sent, "each payment arrived once");
}
