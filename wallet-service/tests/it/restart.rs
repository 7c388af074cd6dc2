use std::time::Duration;

use tonic::Code;

use crate::helpers::{Wallet, all};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_under_load_answers_what_it_took_and_loses_nothing() {
    let mut wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    let calls = all((0..100).map(|n| {
        let (wallet, asha, ben) = (&wallet, &asha, &ben);
        async move { wallet.pay(asha, ben, &format!("k{n}"), 1).await }
    }));
    let end = async {
        tokio::task::yield_now().await;
        wallet.tasks.shutdown(Duration::from_secs(10)).await
    };
    let (outcomes, left) = tokio::join!(calls, end);
    assert!(left.is_empty(), "these tasks did not end: {left:?}");
    for outcome in outcomes {
        assert!(outcome.is_ok() || outcome.unwrap_err().code() == Code::Unavailable);
    }
    wallet.start_again().await;
    // Whatever came of them, each is done once after a retry with its key.
    let retries = all((0..100).map(|n| {
        let (wallet, asha, ben) = (&wallet, &asha, &ben);
        async move { wallet.pay(asha, ben, &format!("k{n}"), 1).await }
    }));
    for outcome in retries.await {
        outcome.unwrap();
    }
    assert_eq!(
        (wallet.balance(&asha).await, wallet.balance(&ben).await),
        (900, 100)
    );
    wallet.assert_sound().await;
}
