//! Two processes of the service on one database.

use std::collections::{HashMap, HashSet};

use platform::grpc::client::{GrpcChannel, as_user};
use platform::grpc::is_replayed;
use platform::test_kit::eventually;
use proto::wallet::v1::wallet_client::WalletClient;
use proto::wallet::v1::{ListTransactionsRequest, TransferPosted, TransferRefused, payee::By};

use crate::helpers::{PATIENCE, Person, Wallet, all, reason, transfer};

/// What a caller was told of a key: the transaction, or why not.
async fn told(
    mut client: WalletClient<GrpcChannel>,
    payer: &Person,
    payee: &Person,
    key: &str,
    minor: i64,
) -> (Result<String, String>, bool) {
    let request = transfer(key, By::Handle(payee.handle.clone()), minor);
    match client.transfer(as_user(request, &payer.token)).await {
        Ok(reply) => {
            let again = is_replayed(reply.metadata());
            (Ok(reply.into_inner().transaction.unwrap().id), again)
        }
        Err(refusal) => (Err(reason(&refusal)), is_replayed(refusal.metadata())),
    }
}

/// The balances after the transactions of a history follow from each other, oldest first.
async fn assert_in_order(wallet: &Wallet, person: &Person) {
    let request = ListTransactionsRequest {
        limit: 100,
        status: "posted".to_owned(),
        ..Default::default()
    };
    let page = wallet.history(person, request).await.unwrap();
    assert_eq!(page.next_cursor, "", "all on one page");
    let mut balance = 0;
    for one in page.transactions.iter().rev() {
        let minor = one.amount.as_ref().unwrap().amount_minor;
        balance += if one.direction == "in" { minor } else { -minor };
        assert_eq!(one.balance_after.as_ref().unwrap().amount_minor, balance);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_at_both_replicas_pay_each_key_once_and_keep_every_unit() {
    let wallet = Wallet::start().await;
    let replica = wallet.replica().await;
    let mut people: Vec<Person> = Vec::new();
    for name in ["asha", "ben", "chi", "dev"] {
        people.push(wallet.rich(name, 500).await);
    }
    let calls = (0..300_usize).map(|n| {
        let (key, at_first) = (n / 2, n % 2 == 0);
        let (payer, payee) = (&people[key % 4], &people[(key + 1 + key % 3) % 4]);
        let client = if at_first {
            &wallet.client
        } else {
            &replica.client
        };
        let minor = 1 + i64::try_from(key * 7 % 150).unwrap();
        async move { told(client.clone(), payer, payee, &format!("k{key}"), minor).await }
    });
    let outcomes = all(calls).await;
    let (mut posted, mut refused) = (HashSet::new(), 0);
    for pair in outcomes.chunks(2) {
        assert_eq!(pair[0].0, pair[1].0, "both are told the same");
        assert!(
            pair[0].1 != pair[1].1,
            "one of them is told that it was done before"
        );
        match &pair[0].0 {
            Ok(id) => assert!(
                posted.insert(id.clone()),
                "each key has a transaction of its own"
            ),
            Err(reason) => {
                assert_eq!(reason, "insufficient_funds");
                refused += 1;
            }
        }
    }
    let mut sum = 0;
    for person in &people {
        let balance = wallet.balance(person).await;
        assert!(balance >= 0);
        sum += balance;
        assert_in_order(&wallet, person).await;
    }
    assert_eq!(sum, 2000);
    wallet.assert_sound().await;
    // One fact for each, and for no other.
    let facts = wallet.told::<TransferPosted>().await;
    let told: HashSet<String> = facts
        .iter()
        .map(|fact| fact.transaction_id.clone())
        .collect();
    assert_eq!((told, facts.len()), (posted.clone(), posted.len()));
    assert_eq!(wallet.told::<TransferRefused>().await.len(), refused);
    assert_versions_told(&facts);
    replica.stop().await;
}

/// Facts tell each version of an account once and none is left out after the first that is told.
fn assert_versions_told(facts: &[TransferPosted]) {
    let mut versions: HashMap<&str, Vec<i64>> = HashMap::new();
    for side in facts.iter().flat_map(|fact| [&fact.from, &fact.to]) {
        let side = side.as_ref().unwrap();
        versions
            .entry(&side.account_id)
            .or_default()
            .push(side.version);
    }
    for versions in versions.values_mut() {
        versions.sort_unstable();
        assert!(
            versions.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{versions:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_at_the_other_replica_waits_for_the_first_and_gets_its_answer() {
    let wallet = Wallet::start().await;
    let replica = wallet.replica().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    // The first has its key and waits for the account; the second waits for the key.
    let other = wallet.hold_accounts().await;
    let first = told(wallet.client.clone(), &asha, &ben, "k", 100);
    let second = async {
        all_wait(&wallet, 1).await;
        told(replica.client.clone(), &asha, &ben, "k", 100).await
    };
    let release = async {
        all_wait(&wallet, 2).await;
        other.rollback().await.unwrap();
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    assert!(
        first.0.is_ok() && first.0 == second.0,
        "{first:?} {second:?}"
    );
    assert!(
        first.1 != second.1,
        "one of them is told that it was done before"
    );
    if wallet.is_postgres() {
        assert!(second.1, "the one that came second");
    }
    assert_eq!(wallet.balance(&ben).await, 100);
    wallet.assert_sound().await;
    replica.stop().await;
}

/// Until so many wait for somebody's lock. SQLite does not tell who waits, and need not: there all stand before the one
/// writer, whoever came first.
async fn all_wait(wallet: &Wallet, sessions: i64) {
    if !wallet.is_postgres() {
        return;
    }
    eventually(PATIENCE, || async {
        let waiting = "SELECT count(*) AS n FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wallet.number(waiting).await >= sessions
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_bound_to_its_request_at_every_replica() {
    let wallet = Wallet::start().await;
    let replica = wallet.replica().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    let (first, other) = tokio::join!(
        told(wallet.client.clone(), &asha, &ben, "k", 100),
        told(replica.client.clone(), &asha, &ben, "k", 200),
    );
    let reused = Err("idempotency_key_reused".to_owned());
    assert!(
        first.0 == reused || other.0 == reused,
        "{first:?} {other:?}"
    );
    let paid = if first.0.is_ok() { 100 } else { 200 };
    assert_eq!(wallet.balance(&ben).await, paid);
    wallet.assert_sound().await;
    replica.stop().await;
}
