//! One quota, however many gateways count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use launcher::client::ApiError;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::common::people::arrive;

/// The default of the product: a thousand calls a minute and user.
const QUOTA: u64 = 1_000;
const WINDOW_S: f64 = 60.0;
const CALLERS: u64 = 16;
const CALLS: u64 = 1_600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_let_one_user_through_as_often_as_one_would() {
    let cluster = Cluster::shared().await;
    let user = arrive(&cluster.api(), &mut cluster.mailbox(), "Greta").await;
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // Arriving has cost some of the quota; what it cost only makes the bound below looser by nothing.
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let gateway = cluster.gateway(usize::try_from(caller % 2 + 1).expect("1 or 2"));
        let session = user.moved_to(&gateway);
        let (accepted, refused) = (Arc::clone(&accepted), Arc::clone(&refused));
        callers.spawn(async move {
            for _ in 0..CALLS / CALLERS {
                match session.accounts().await {
                    Ok(_) => accepted.fetch_add(1, Ordering::Relaxed),
                    Err(ApiError::Refused(problem)) if problem.status.as_u16() == 429 => {
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(error) => panic!("{error}"),
                };
            }
        });
    }
    callers.join_all().await;
    let took = begun.elapsed().as_secs_f64();
    let (accepted, refused) = (
        accepted.load(Ordering::Relaxed),
        refused.load(Ordering::Relaxed),
    );
    // The calls were counted somewhere between their sending and their answers, so nothing grew back beyond `took`.
    let grown = (took * QUOTA as f64 / WINDOW_S).floor() as u64;
    println!(
        "{accepted} accepted and {refused} refused in {took:.2} s: burst {QUOTA}, {grown} grew back"
    );
    assert_eq!(accepted + refused, CALLS);
    assert!(accepted <= QUOTA + grown, "more than the quota passed");
    assert!(
        accepted >= QUOTA - 50,
        "the quota was not shared but cut: only {accepted} passed"
    );
    assert!(refused > 0, "the quota was never reached");
}
