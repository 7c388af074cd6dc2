//! The database is lost again and again while callers pay.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use platform::grpc::client::{GrpcChannel, as_user};
use platform::test_kit::{assert_clean, eventually};
use platform::{Error, Kind};
use proto::wallet::v1::wallet_client::WalletClient;
use proto::wallet::v1::{TransferPosted, payee::By};
use sea_orm::ConnectionTrait;
use wallet_service::PosterConfig;

use crate::helpers::{PATIENCE, Person, Wallet, all, transfer};

/// How often the database is lost.
const LOSSES: usize = 25;
/// Callers at a time; each waits for an answer before the next payment.
const CALLERS: usize = 16;

/// Counts what callers met, and tells them when it is over.
#[derive(Default)]
struct Course {
    answered: AtomicUsize,
    turned_away: AtomicUsize,
    over: AtomicBool,
}

impl Course {
    /// Waits until so many more were answered.
    async fn goes_on(&self, more: usize) {
        let before = self.answered.load(Ordering::SeqCst);
        eventually(PATIENCE, || async {
            self.answered.load(Ordering::SeqCst) >= before + more
        })
        .await;
    }
}

/// Pays with one key until it is answered for good; gives the transaction.
async fn pay(
    course: &Course,
    client: &WalletClient<GrpcChannel>,
    payer: &Person,
    payee: &Person,
    key: &str,
) -> String {
    eventually(PATIENCE, || async {
        let request = transfer(key, By::Handle(payee.handle.clone()), 1);
        let mut client = client.clone();
        match client.transfer(as_user(request, &payer.token)).await {
            Ok(reply) => {
                course.answered.fetch_add(1, Ordering::SeqCst);
                Some(reply.into_inner().transaction.unwrap().id)
            }
            Err(status) => {
                let error = Error::from_status(&status);
                assert!(
                    matches!(error.kind(), Kind::Unavailable | Kind::Timeout),
                    "who pays is never told that it failed: {error}"
                );
                course.turned_away.fetch_add(1, Ordering::SeqCst);
                None
            }
        }
    })
    .await
}

/// PostgreSQL: ends every session but the one that asks, wherever each stands. SQLite: keeps the file to itself for
/// longer than a try may take.
async fn lose_database(wallet: &Wallet, course: &Course) {
    if wallet.is_postgres() {
        let end = "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        // The one that asks may be ended by nobody.
        assert!(wallet.number(end).await >= 0);
        return;
    }
    let file = wallet.db.begin().await.unwrap();
    file.execute_unprepared("DELETE FROM idempotency_keys WHERE scope = ''")
        .await
        .unwrap();
    let before = course.turned_away.load(Ordering::SeqCst);
    eventually(PATIENCE, || async {
        course.turned_away.load(Ordering::SeqCst) > before
    })
    .await;
    file.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_has_one_outcome_however_often_the_database_is_lost() {
    let wallet = Wallet::start_with(PosterConfig {
        try_timeout_ms: 500,
        ..PosterConfig::default()
    })
    .await;
    let replica = wallet.replica().await;
    let mut people = Vec::new();
    for name in ["asha", "ben", "chi", "dev"] {
        people.push(wallet.rich(name, 1_000_000).await);
    }
    let course = Course::default();
    let calls = all((0..CALLERS).map(|caller| {
        let (course, people) = (&course, &people);
        let clients = [&wallet.client, &replica.client];
        async move {
            let mut paid = Vec::new();
            while !course.over.load(Ordering::SeqCst) {
                let n = paid.len();
                let (payer, payee) = (&people[caller % 4], &people[(caller + 1 + n % 3) % 4]);
                let key = format!("{caller}-{n}");
                paid.push(pay(course, clients[(caller + n) % 2], payer, payee, &key).await);
            }
            paid
        }
    }));
    let losses = async {
        for _ in 0..LOSSES {
            course.goes_on(CALLERS).await;
            lose_database(&wallet, &course).await;
        }
        course.goes_on(CALLERS).await;
        course.over.store(true, Ordering::SeqCst);
    };
    let (paid, ()) = tokio::join!(calls, losses);

    // Once more with every key: what callers were told stands.
    let mut told: Vec<String> = Vec::new();
    for (caller, ids) in paid.into_iter().enumerate() {
        for (n, id) in ids.iter().enumerate() {
            let (payer, payee) = (&people[caller % 4], &people[(caller + 1 + n % 3) % 4]);
            let again = pay(
                &course,
                &wallet.client,
                payer,
                payee,
                &format!("{caller}-{n}"),
            )
            .await;
            assert_eq!(*id, again);
        }
        told.extend(ids);
    }
    let count = i64::try_from(told.len()).unwrap();
    let posted = "SELECT count(*) AS n FROM transactions WHERE kind = 'transfer'";
    assert_eq!(wallet.number(posted).await, count, "none was done twice");
    let mut sum = 0;
    for person in &people {
        sum += wallet.balance(person).await;
    }
    assert_eq!(sum, 4_000_000);
    println!(
        "{count} payments, {LOSSES} losses, {} calls turned away",
        course.turned_away.load(Ordering::SeqCst)
    );

    // Every fact leaves; a relay whose session was ended gets its rows back when their lease is over.
    eventually(Duration::from_secs(90), || async {
        wallet.number("SELECT count(*) AS n FROM outbox").await == 0
    })
    .await;
    assert_clean(&wallet.db).await;
    let facts = wallet.told::<TransferPosted>().await;
    let mut ids: Vec<String> = facts.into_iter().map(|fact| fact.transaction_id).collect();
    ids.sort_unstable();
    ids.dedup();
    told.sort_unstable();
    assert_eq!(ids, told, "each was told");
    wallet.assert_sound().await;
    replica.stop().await;
}
