use std::collections::BTreeSet;

use platform::grpc::client::as_user;
use platform::time;
use proto::wallet::v1::{GetTransactionRequest, ListTransactionsRequest, Transaction};
use tonic::Code;

use crate::helpers::{Person, Wallet, inr};

async fn pages(wallet: &Wallet, person: &Person, limit: i32) -> Vec<Transaction> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = ListTransactionsRequest {
            limit,
            cursor,
            ..Default::default()
        };
        let page = wallet.history(person, request).await.unwrap();
        assert!(page.transactions.len() <= usize::try_from(limit).unwrap());
        all.extend(page.transactions);
        cursor = page.next_cursor;
        if cursor.is_empty() {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_size_show_everything_once_newest_first() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (
        wallet.rich("asha", 1000).await,
        wallet.rich("ben", 1000).await,
    );
    for n in 0..24 {
        let (payer, payee) = if n % 3 == 0 {
            (&ben, &asha)
        } else {
            (&asha, &ben)
        };
        // Every fifth is refused.
        let minor = if n % 5 == 0 { 100_000 } else { 10 };
        let _ = wallet.pay(payer, payee, &format!("k{n}"), minor).await;
    }
    // Of the 5 refused ones, 2 were asked for by Ben (0 and 15).
    for (person, expected) in [(&asha, 1 + 24 - 2), (&ben, 1 + 24 - 3)] {
        let whole = pages(&wallet, person, 100).await;
        assert_eq!(whole.len(), expected);
        assert!(whole.windows(2).all(|pair| pair[0].id > pair[1].id));
        for limit in [1, 2, 5, 7] {
            assert_eq!(
                pages(&wallet, person, limit).await,
                whole,
                "pages of {limit}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_somebody_reads_shifts_no_page() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (wallet.rich("asha", 1000).await, wallet.person("ben").await);
    for n in 0..12 {
        wallet.pay(&asha, &ben, &format!("k{n}"), 1).await.unwrap();
    }
    let before = pages(&wallet, &asha, 100).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for n in 0.. {
        let request = ListTransactionsRequest {
            limit: 3,
            cursor,
            ..Default::default()
        };
        let page = wallet.history(&asha, request).await.unwrap();
        seen.extend(page.transactions);
        wallet
            .pay(&asha, &ben, &format!("later{n}"), 1)
            .await
            .unwrap();
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(seen, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_keep_what_they_name() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (
        wallet.rich("asha", 1000).await,
        wallet.rich("ben", 1000).await,
    );
    let chi = wallet.person("chi").await;
    wallet.pay(&asha, &ben, "a", 1).await.unwrap();
    wallet.pay(&asha, &chi, "b", 2).await.unwrap();
    wallet.pay(&ben, &asha, "c", 3).await.unwrap();
    wallet.pay(&asha, &ben, "d", 5000).await.unwrap_err();
    let amounts = |request: ListTransactionsRequest| {
        let (wallet, asha) = (&wallet, &asha);
        async move {
            let page = wallet.history(asha, request).await.unwrap();
            let amounts = page
                .transactions
                .into_iter()
                .map(|one| one.amount.unwrap().amount_minor);
            amounts.collect::<BTreeSet<_>>()
        }
    };
    let ask = ListTransactionsRequest::default;
    let set = |all: &[i64]| all.iter().copied().collect::<BTreeSet<_>>();
    let now = Some(time::to_proto(wallet.platform.clock().now()));
    let account = wallet.accounts(&asha).await[0].id.clone();
    let foreign = wallet.accounts(&ben).await[0].id.clone();
    for (request, expected) in [
        (ask(), set(&[1, 2, 3, 1000, 5000])),
        (
            ListTransactionsRequest {
                direction: "in".into(),
                ..ask()
            },
            set(&[3, 1000]),
        ),
        (
            ListTransactionsRequest {
                direction: "out".into(),
                ..ask()
            },
            set(&[1, 2, 5000]),
        ),
        (
            ListTransactionsRequest {
                status: "refused".into(),
                ..ask()
            },
            set(&[5000]),
        ),
        (
            ListTransactionsRequest {
                category: "deposit".into(),
                ..ask()
            },
            set(&[1000]),
        ),
        (
            ListTransactionsRequest {
                counterparty_user_id: ben.id.to_string(),
                ..ask()
            },
            set(&[1, 3, 5000]),
        ),
        (
            ListTransactionsRequest {
                account_id: account,
                ..ask()
            },
            set(&[1, 2, 3, 1000, 5000]),
        ),
        (
            ListTransactionsRequest {
                account_id: foreign,
                ..ask()
            },
            set(&[]),
        ),
        (ListTransactionsRequest { from: now, ..ask() }, set(&[])),
        (
            ListTransactionsRequest { to: now, ..ask() },
            set(&[1, 2, 3, 1000, 5000]),
        ),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(amounts(request).await, expected, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_see_a_transfer_from_their_own_side_and_nobody_else_does() {
    let wallet = Wallet::start().await;
    let (asha, ben) = (
        wallet.rich("asha", 1000).await,
        wallet.rich("ben", 50).await,
    );
    let chi = wallet.person("chi").await;
    let made = wallet
        .pay(&asha, &ben, "k", 200)
        .await
        .unwrap()
        .into_inner()
        .transaction
        .unwrap();
    let refused = wallet.pay(&asha, &ben, "l", 9999).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let get = |person: &Person, transaction_id: &str| {
        let request = GetTransactionRequest {
            transaction_id: transaction_id.to_owned(),
        };
        let (mut client, request) = (wallet.client.clone(), as_user(request, &person.token));
        async move {
            client
                .get_transaction(request)
                .await
                .map(|r| r.into_inner().transaction.unwrap())
        }
    };
    let (sent, got) = (
        get(&asha, &made.id).await.unwrap(),
        get(&ben, &made.id).await.unwrap(),
    );
    assert_eq!(sent, made);
    assert_eq!(
        (sent.direction.as_str(), sent.balance_after),
        ("out", Some(inr(800)))
    );
    assert_eq!(
        (got.direction.as_str(), got.balance_after),
        ("in", Some(inr(250)))
    );
    assert_eq!(got.from.as_ref().unwrap().handle, asha.handle);
    assert_eq!(got.from.as_ref().unwrap().account_id, "");
    assert_ne!(got.to.as_ref().unwrap().account_id, "");
    assert_eq!(
        get(&chi, &made.id).await.unwrap_err().code(),
        Code::NotFound
    );

    let page = wallet
        .history(&asha, ListTransactionsRequest::default())
        .await
        .unwrap();
    let refused = page
        .transactions
        .iter()
        .find(|one| one.status == "refused")
        .unwrap();
    assert!(get(&asha, &refused.id).await.is_ok());
    assert_eq!(
        get(&ben, &refused.id).await.unwrap_err().code(),
        Code::NotFound
    );
}
