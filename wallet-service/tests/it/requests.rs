use platform::grpc::client::as_user;
use proto::wallet::v1::payee::By;
use proto::wallet::v1::{
    DepositRequest, ListCategoriesRequest, ListTransactionsRequest, Money, OpenAccountRequest,
    Payee, TransferRequest,
};
use tonic::Code;

use crate::helpers::{Wallet, fields, inr, transfer};

fn good() -> TransferRequest {
    transfer("k", By::Handle("AB123".to_owned()), 100)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_transfer_that_is_wrong_is_named() {
    let wallet = Wallet::start().await;
    let asha = wallet.rich("asha", 1000).await;
    let to = |by| Some(Payee { by: Some(by) });
    let amount = |amount_minor, currency: &str| {
        Some(Money {
            amount_minor,
            currency: currency.to_owned(),
        })
    };
    let long = "\u{e9}".repeat(501);
    let cases: Vec<(TransferRequest, &[&str])> = vec![
        (
            TransferRequest {
                idempotency_key: String::new(),
                ..good()
            },
            &["Idempotency-Key"],
        ),
        (
            TransferRequest {
                idempotency_key: "k".repeat(256),
                ..good()
            },
            &["Idempotency-Key"],
        ),
        (
            TransferRequest {
                idempotency_key: "a b".to_owned(),
                ..good()
            },
            &["Idempotency-Key"],
        ),
        (TransferRequest { to: None, ..good() }, &["to"]),
        (
            TransferRequest {
                to: Some(Payee { by: None }),
                ..good()
            },
            &["to"],
        ),
        (
            TransferRequest {
                to: to(By::Handle(String::new())),
                ..good()
            },
            &["to.handle"],
        ),
        (
            TransferRequest {
                to: to(By::Handle("A\u{0}B".into())),
                ..good()
            },
            &["to.handle"],
        ),
        (
            TransferRequest {
                to: to(By::Email("not a mail".into())),
                ..good()
            },
            &["to.email"],
        ),
        (
            TransferRequest {
                to: to(By::UserId("42".into())),
                ..good()
            },
            &["to.user_id"],
        ),
        (
            TransferRequest {
                amount: None,
                ..good()
            },
            &["amount"],
        ),
        (
            TransferRequest {
                amount: amount(0, "INR"),
                ..good()
            },
            &["amount.amount_minor"],
        ),
        (
            TransferRequest {
                amount: amount(-1, "INR"),
                ..good()
            },
            &["amount.amount_minor"],
        ),
        (
            TransferRequest {
                amount: amount(i64::MIN, "INR"),
                ..good()
            },
            &["amount.amount_minor"],
        ),
        (
            TransferRequest {
                amount: amount(i64::MAX, "INR"),
                ..good()
            },
            &["amount.amount_minor"],
        ),
        (
            TransferRequest {
                amount: amount(1_000_000_000_000_001, "INR"),
                ..good()
            },
            &["amount.amount_minor"],
        ),
        (
            TransferRequest {
                amount: amount(1, "inr"),
                ..good()
            },
            &["amount.currency"],
        ),
        (
            TransferRequest {
                description: long,
                ..good()
            },
            &["description"],
        ),
        (
            TransferRequest {
                description: "a\u{0}b".into(),
                ..good()
            },
            &["description"],
        ),
        (
            TransferRequest {
                category: "yachts".into(),
                ..good()
            },
            &["category"],
        ),
        (
            TransferRequest {
                to: None,
                amount: amount(0, "XXX"),
                category: "?".into(),
                ..good()
            },
            &["to", "amount.currency", "amount.amount_minor", "category"],
        ),
    ];
    for (request, expected) in cases {
        let shown = format!("{request:?}");
        let refused = wallet.transfer(&asha, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{shown}");
        assert_eq!(fields(&refused), expected, "{shown}");
    }
    let most = TransferRequest {
        description: "\u{e9}".repeat(500),
        ..good()
    };
    assert_eq!(
        wallet.transfer(&asha, most).await.unwrap_err().code(),
        Code::NotFound
    );
    wallet.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_fields_of_the_other_calls_are_named() {
    let wallet = Wallet::start().await;
    let asha = wallet.person("asha").await;
    let mut client = wallet.client.clone();
    let key = || "k".to_owned();
    let deposit = DepositRequest {
        idempotency_key: key(),
        amount: Some(Money {
            amount_minor: 0,
            ..inr(0)
        }),
        account_id: "mine".to_owned(),
        ..Default::default()
    };
    let refused = client
        .deposit(as_user(deposit, &asha.token))
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["amount.amount_minor", "account_id"]);
    let open = OpenAccountRequest {
        idempotency_key: key(),
        currency: "XAU".to_owned(),
    };
    let refused = client
        .open_account(as_user(open, &asha.token))
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["currency"]);
    let ask = ListTransactionsRequest::default;
    for (request, field) in [
        (
            ListTransactionsRequest {
                limit: 101,
                ..ask()
            },
            "limit",
        ),
        (ListTransactionsRequest { limit: -1, ..ask() }, "limit"),
        (
            ListTransactionsRequest {
                cursor: "x".into(),
                ..ask()
            },
            "cursor",
        ),
        (
            ListTransactionsRequest {
                direction: "up".into(),
                ..ask()
            },
            "direction",
        ),
        (
            ListTransactionsRequest {
                status: "gone".into(),
                ..ask()
            },
            "status",
        ),
        (
            ListTransactionsRequest {
                category: "\u{0}".into(),
                ..ask()
            },
            "category",
        ),
        (
            ListTransactionsRequest {
                account_id: "x".into(),
                ..ask()
            },
            "account_id",
        ),
        (
            ListTransactionsRequest {
                counterparty_user_id: "x".into(),
                ..ask()
            },
            "counterparty_user_id",
        ),
        (
            ListTransactionsRequest {
                from: Some(proto_time(10)),
                to: Some(proto_time(9)),
                ..ask()
            },
            "from",
        ),
        (
            ListTransactionsRequest {
                to: Some(proto_time(i64::MAX)),
                ..ask()
            },
            "to",
        ),
    ] {
        let refused = wallet.history(&asha, request).await.unwrap_err();
        assert_eq!(
            (refused.code(), fields(&refused)),
            (Code::InvalidArgument, vec![field.into()])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_token() {
    let wallet = Wallet::start().await;
    let mut client = wallet.client.clone();
    let refused = client.transfer(good()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = client
        .transfer(as_user(good(), "not.a.token"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn categories_are_the_built_in_ones_and_those_of_the_settings() {
    let wallet = Wallet::start().await;
    let asha = wallet.person("asha").await;
    let request = as_user(ListCategoriesRequest {}, &asha.token);
    let names = wallet
        .client
        .clone()
        .list_categories(request)
        .await
        .unwrap()
        .into_inner()
        .categories;
    assert_eq!(names.len(), 9);
    assert!(
        ["food", "transfer", "pets"]
            .iter()
            .all(|name| names.iter().any(|one| one == name))
    );
}

fn proto_time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}
