//! Which fact tells whom what.

use std::collections::HashMap;

use platform::test_kit::{assert_clean, envelope};
use proto::identity::v1::SessionRevoked;
use proto::scheduler::v1::SmsScheduleFinished;
use proto::wallet::v1::TransferRefused;
use serde_json::json;

use crate::helpers::*;

#[tokio::test]
async fn a_transfer_reaches_both_sides_with_consecutive_numbers() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let transaction = world.transfer(&asha, &bola, 1250).await;

    let (sent, received) = (world.events(&asha).await, world.events(&bola).await);
    for events in [&sent, &received] {
        let told: Vec<_> = events
            .iter()
            .map(|e| (e.seq, &*e.topic, &*e.event))
            .collect();
        assert_eq!(
            told,
            [
                (1, "transaction", "transaction.created"),
                (2, "balance", "balance.updated"),
                (3, "notification", "notification.created"),
            ]
        );
    }
    let created = data(&sent[0]);
    assert_eq!(
        created,
        json!({
            "transaction_id": transaction, "kind": "transfer", "direction": "out",
            "amount": {"amount_minor": 1250, "currency": "INR"}, "status": "posted",
            "counterparty": {"user_id": bola.id, "handle": "BO34"}, "category": "food",
            "created_at": created["created_at"],
        })
    );
    assert_eq!(data(&received[0])["direction"], "in");
    assert_eq!(data(&received[0])["counterparty"]["handle"], "AS12");
    let balance = data(&received[1]);
    assert_eq!(
        balance,
        json!({
            "account_id": bola.account, "currency": "INR", "version": balance["version"],
            "posted": {"amount_minor": 10_000, "currency": "INR"},
            "pending": {"amount_minor": 500, "currency": "INR"},
            "available": {"amount_minor": 9_500, "currency": "INR"},
        })
    );
    let notification = data(&received[2]);
    assert_eq!(
        notification,
        json!({
            "id": notification["id"], "kind": "transfer_received", "priority": "normal",
            "title": "AS12 paid you", "text": "12.50 INR came from AS12.",
            "entity_type": "transaction", "entity_id": transaction, "read": false,
            "created_at": notification["created_at"],
        })
    );
    assert_eq!(
        (world.unread(&asha).await, world.unread(&bola).await),
        (1, 1)
    );
    assert_clean(&world.db).await;
}

#[tokio::test]
async fn a_deposit_reaches_its_owner() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    world
        .platform
        .emit(asha.id, &world.deposit_event(&asha, 100_000))
        .await;
    let events = world.events(&asha).await;
    assert_eq!(events.len(), 3);
    assert_eq!(data(&events[0])["counterparty"], json!(null));
    assert_eq!(data(&events[0])["kind"], "deposit");
    assert_eq!(
        data(&events[2])["text"],
        "1000.00 INR were added to your wallet."
    );
    assert_clean(&world.db).await;
}

#[tokio::test]
async fn a_refused_transfer_is_told_to_the_payer_alone() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    let refused = TransferRefused {
        transaction_id: new_id().to_string(),
        user_id: asha.id.to_string(),
        amount: inr(5),
        reason: "insufficient_funds".to_owned(),
    };
    world.platform.emit(asha.id, &refused).await;
    let events = world.events(&asha).await;
    let told: Vec<_> = events.iter().map(|e| &*e.event).collect();
    assert_eq!(told, ["transaction.refused", "notification.created"]);
    assert_eq!(data(&events[0])["reason"], "insufficient_funds");
    assert_eq!(data(&events[1])["kind"], "transfer_failed");
    assert_eq!(data(&events[1])["priority"], "high");
    assert_clean(&world.db).await;
}

#[tokio::test]
async fn a_reused_refresh_token_is_told_and_a_sign_out_is_not() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    for reason in ["sign_out", "refresh_token_reused", "sign_out_everywhere"] {
        let revoked = SessionRevoked {
            session_id: new_id().to_string(),
            user_id: asha.id.to_string(),
            reason: reason.to_owned(),
        };
        world.platform.emit(asha.id, &revoked).await;
    }
    let events = world.events(&asha).await;
    assert_eq!(events.len(), 1);
    assert_eq!(data(&events[0])["kind"], "security");
    assert_eq!(data(&events[0])["entity_type"], "session");
}

#[tokio::test]
async fn a_finished_schedule_is_told_to_its_owner() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    let finished = SmsScheduleFinished {
        schedule_id: new_id().to_string(),
        user_id: asha.id.to_string(),
        status: "finished".to_owned(),
        total: 1000,
        delivered: 990,
    };
    world.platform.emit(asha.id, &finished).await;
    let events = world.events(&asha).await;
    assert_eq!(
        data(&events[0])["text"],
        "990 of 1000 messages were delivered."
    );
}

#[tokio::test]
async fn the_same_event_twice_changes_nothing() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let event = world.transfer_event(&asha, &bola, 1250);
    let event = envelope(world.platform.clock().now(), asha.id, &event);
    for _ in 0..3 {
        world.platform.publish(event.clone()).await;
    }
    assert_eq!(world.events(&asha).await.len(), 3);
    assert_eq!(world.events(&bola).await.len(), 3);
    assert_eq!(world.unread(&bola).await, 1);
}

#[tokio::test]
async fn a_transfer_waits_until_both_sides_are_known() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    let bola = User {
        id: new_id(),
        account: new_id(),
        handle: "BO34".to_owned(),
    };
    let introduce = async {
        // The transfer has been put off at least once before the introduction comes.
        tokio::task::yield_now().await;
        world.platform.emit(bola.id, &registered(&bola)).await;
    };
    tokio::join!(world.transfer(&asha, &bola, 1), introduce);
    assert_eq!(
        data(&world.events(&asha).await[2])["title"],
        "You paid BO34"
    );
    assert_clean(&world.db).await;
}

#[tokio::test]
async fn an_older_name_does_not_replace_a_newer_one() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    for (version, handle) in [(5, "BO99"), (4, "OLD1")] {
        let mut event = registered(&bola);
        (event.version, event.handle) = (version, handle.to_owned());
        world.platform.emit(bola.id, &event).await;
    }
    world.transfer(&asha, &bola, 1).await;
    assert_eq!(
        data(&world.events(&asha).await[2])["title"],
        "You paid BO99"
    );
}

#[tokio::test]
async fn what_cannot_be_understood_is_put_aside_and_stops_nothing() {
    let world = World::start().await;
    let (asha, bola) = (world.register("AS12").await, world.register("BO34").await);
    let mut bad = world.transfer_event(&asha, &bola, 1);
    bad.amount = None;
    world.platform.emit(asha.id, &bad).await;
    let mut bad = world.transfer_event(&asha, &bola, 1);
    bad.transaction_id = "1".to_owned();
    world.platform.emit(asha.id, &bad).await;
    world.transfer(&asha, &bola, 1).await;
    assert_eq!(world.events(&asha).await.len(), 3);
    let dead = platform::consumer::dead_letters(world.db.reader())
        .await
        .unwrap();
    assert_eq!(dead, 2);
    // They stay there until somebody who understands them comes.
    let handles = world.platform.handles();
    assert_eq!(
        notify_service::redrive(&world.config, &handles)
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn two_hundred_transfers_among_few_at_once_leave_no_gap() {
    let world = World::start().await;
    let mut users = Vec::new();
    for handle in ["AA11", "BB22", "CC33", "DD44"] {
        users.push(world.register(handle).await);
    }
    let transfers = (0..200).map(|n| {
        let (from, to) = (&users[n % 4], &users[(n + 1 + n / 4 % 3) % 4]);
        world.transfer(from, to, i64::try_from(n).unwrap() + 1)
    });
    futures::future::join_all(transfers).await;

    let mut sides: HashMap<String, u32> = HashMap::new();
    for user in &users {
        let events = world.events(user).await;
        let numbers: Vec<_> = events.iter().map(|event| event.seq).collect();
        let wanted: Vec<_> = (1..=i64::try_from(events.len()).unwrap()).collect();
        assert_eq!(
            numbers, wanted,
            "the numbers of {} rise by one",
            user.handle
        );
        for event in events
            .iter()
            .filter(|event| event.event == "transaction.created")
        {
            let id = data(event)["transaction_id"].as_str().unwrap().to_owned();
            *sides.entry(id).or_default() += 1;
        }
        assert_eq!(
            world.unread(user).await * 3,
            i64::try_from(events.len()).unwrap()
        );
    }
    assert_eq!(sides.len(), 200);
    assert!(
        sides.values().all(|told| *told == 2),
        "each transfer is told once to each side"
    );
    assert_clean(&world.db).await;
}

#[tokio::test]
async fn the_trace_of_an_event_stands_in_the_stream() {
    let world = World::start().await;
    let asha = world.register("AS12").await;
    let mut event = envelope(
        world.platform.clock().now(),
        asha.id,
        &world.deposit_event(&asha, 1),
    );
    event.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    world.platform.publish(event.clone()).await;
    for told in world.events(&asha).await {
        assert_eq!(told.traceparent, event.traceparent);
    }
}
