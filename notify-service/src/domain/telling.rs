//! From one fact to what each person concerned is told, in the order in which it enters the stream.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::money::Money;
use super::movement::{Deposit, Person, Refusal, Side, Transfer};
use super::notification::Draft;

/// Everything that one user is told about one fact.
#[derive(Debug, Clone)]
pub(crate) struct Telling {
    /// Whom to tell.
    pub(crate) user_id: Uuid,
    /// When the fact happened.
    pub(crate) at: Timestamp,
    /// What to tell, in order.
    pub(crate) items: Vec<Item>,
}

/// One number of a user's stream.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// An event that is only in the stream.
    Event {
        topic: Topic,
        event: &'static str,
        data: Value,
    },
    /// A notification: an entry of the inbox, and the event that tells of it.
    Notification(Draft),
}

/// What an event of the stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Balance,
    Transaction,
    Notification,
}

impl Topic {
    /// Name on the wire and in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Transaction => "transaction",
            Self::Notification => "notification",
        }
    }
}

/// What a deposit tells its owner.
pub(crate) fn of_deposit(deposit: &Deposit) -> Vec<Telling> {
    let Some(user_id) = deposit.to.user_id else {
        return Vec::new();
    };
    let created = TransactionCreated {
        transaction_id: deposit.transaction_id,
        kind: "deposit",
        direction: "in",
        amount: &deposit.amount,
        status: "posted",
        counterparty: None,
        category: "deposit",
        created_at: deposit.at,
    };
    let items = vec![
        transaction_created(&created),
        balance_updated(&deposit.to, &deposit.amount),
        Item::Notification(Draft::deposit(deposit.transaction_id, &deposit.amount)),
    ];
    vec![Telling {
        user_id,
        at: deposit.at,
        items,
    }]
}

/// What a transfer tells both sides. `from` and `to` are who they are; an account of the house has nobody.
pub(crate) fn of_transfer(
    transfer: &Transfer,
    from: Option<&Person>,
    to: Option<&Person>,
) -> Vec<Telling> {
    let sides = [
        (&transfer.from, "out", from, to),
        (&transfer.to, "in", to, from),
    ];
    sides
        .into_iter()
        .filter_map(|(side, direction, owner, other)| {
            Some(one_side(transfer, side, direction, owner?, other))
        })
        .collect()
}

/// What a refused transfer tells the one who asked for it.
pub(crate) fn of_refusal(refusal: &Refusal) -> Vec<Telling> {
    let data = json!({
        "transaction_id": refusal.transaction_id,
        "kind": "transfer",
        "direction": "out",
        "amount": refusal.amount,
        "status": "refused",
        "reason": refusal.reason,
        "created_at": refusal.at,
    });
    let items = vec![
        Item::Event {
            topic: Topic::Transaction,
            event: "transaction.refused",
            data,
        },
        Item::Notification(Draft::transfer_failed(
            refusal.transaction_id,
            &refusal.amount,
            &refusal.reason,
        )),
    ];
    vec![Telling {
        user_id: refusal.user_id,
        at: refusal.at,
        items,
    }]
}

/// A notification and nothing else.
pub(crate) fn of_notification(user_id: Uuid, at: Timestamp, draft: Draft) -> Vec<Telling> {
    vec![Telling {
        user_id,
        at,
        items: vec![Item::Notification(draft)],
    }]
}

fn one_side(
    transfer: &Transfer,
    side: &Side,
    direction: &'static str,
    owner: &Person,
    other: Option<&Person>,
) -> Telling {
    let created = TransactionCreated {
        transaction_id: transfer.transaction_id,
        kind: "transfer",
        direction,
        amount: &transfer.amount,
        status: "posted",
        counterparty: other,
        category: &transfer.category,
        created_at: transfer.at,
    };
    // Only an account of the house has no handle, and it has this name for all.
    let name = other.map_or("Coffer", |person| person.handle.as_str());
    let draft = match direction {
        "out" => Draft::transfer_sent(transfer.transaction_id, &transfer.amount, name),
        _ => Draft::transfer_received(transfer.transaction_id, &transfer.amount, name),
    };
    Telling {
        user_id: owner.user_id,
        at: transfer.at,
        items: vec![
            transaction_created(&created),
            balance_updated(side, &transfer.amount),
            Item::Notification(draft),
        ],
    }
}

#[derive(Serialize)]
struct TransactionCreated<'a> {
    transaction_id: Uuid,
    kind: &'static str,
    direction: &'static str,
    amount: &'a Money,
    status: &'static str,
    counterparty: Option<&'a Person>,
    category: &'a str,
    created_at: Timestamp,
}

fn transaction_created(created: &TransactionCreated<'_>) -> Item {
    let data = json!(created);
    Item::Event {
        topic: Topic::Transaction,
        event: "transaction.created",
        data,
    }
}

fn balance_updated(side: &Side, amount: &Money) -> Item {
    let data = json!({
        "account_id": side.account_id,
        "currency": amount.currency,
        "version": side.version,
        "posted": amount.with(side.posted_minor),
        "pending": amount.with(side.pending_minor),
        "available": amount.with(side.available_minor),
    });
    Item::Event {
        topic: Topic::Balance,
        event: "balance.updated",
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(user_id: Option<Uuid>, posted_minor: i64) -> Side {
        Side {
            account_id: Uuid::from_u128(7),
            user_id,
            version: 3,
            posted_minor,
            pending_minor: 0,
            available_minor: posted_minor,
        }
    }

    fn person(id: u128, handle: &str) -> Person {
        Person {
            user_id: Uuid::from_u128(id),
            handle: handle.to_owned(),
        }
    }

    fn transfer(from: Option<Uuid>, to: Option<Uuid>) -> Transfer {
        Transfer {
            transaction_id: Uuid::from_u128(9),
            amount: Money::parse(1250, "INR").unwrap(),
            from: side(from, 8750),
            to: side(to, 1250),
            category: "food".to_owned(),
            at: Timestamp::from_second(1_700_000_000).unwrap(),
        }
    }

    #[test]
    fn a_transfer_tells_each_side_its_own_view() {
        let (asha, bola) = (person(1, "AS12"), person(2, "BO34"));
        let transfer = transfer(Some(asha.user_id), Some(bola.user_id));
        let tellings = of_transfer(&transfer, Some(&asha), Some(&bola));
        assert_eq!(tellings.len(), 2);
        let Item::Event {
            data,
            event: "transaction.created",
            ..
        } = &tellings[0].items[0]
        else {
            panic!("the transaction comes first");
        };
        assert_eq!(
            *data,
            json!({
                "transaction_id": Uuid::from_u128(9), "kind": "transfer", "direction": "out",
                "amount": {"amount_minor": 1250, "currency": "INR"}, "status": "posted",
                "counterparty": {"user_id": bola.user_id, "handle": "BO34"},
                "category": "food", "created_at": "2023-11-14T22:13:20Z",
            })
        );
        let Item::Event {
            data,
            event: "balance.updated",
            ..
        } = &tellings[1].items[1]
        else {
            panic!("the balance comes second");
        };
        assert_eq!(
            data["posted"],
            json!({"amount_minor": 1250, "currency": "INR"})
        );
        let Item::Notification(draft) = &tellings[1].items[2] else {
            panic!("the notification comes third");
        };
        assert_eq!(draft.title, "AS12 paid you");
        assert_eq!(draft.text, "12.50 INR came from AS12.");
    }

    #[test]
    fn an_account_of_the_house_is_told_nothing() {
        let asha = person(1, "AS12");
        let tellings = of_transfer(&transfer(Some(asha.user_id), None), Some(&asha), None);
        assert_eq!(tellings.len(), 1);
        assert_eq!(tellings[0].user_id, asha.user_id);
    }
}
