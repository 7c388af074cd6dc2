use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use platform::test_kit::eventually;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{House, SOON, house, house_with, refused};

/// Waits until a stream was opened and none is open any more.
async fn upstream_is_dropped(house: &House) {
    eventually(SOON, || async {
        let opened = house.seen.subscriptions.lock().unwrap().len();
        opened > 0 && house.seen.streams.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn missed_events_come_first_and_live_ones_follow() {
    let house = house().await;
    house.notify.head.send_replace(5);
    let mut socket = house.hello(Some(2)).await;
    assert_eq!(socket.hear().await, json!({"type": "ready", "seq": 5}));
    let event = socket.hear().await;
    assert_eq!(
        event,
        json!({"type": "event", "seq": 3, "topic": "balance", "event": "balance.updated",
            "at": "2023-11-14T22:13:20Z", "data": {"n": 3, "filling": ""}})
    );
    assert_eq!(socket.hear_events(2).await, [4, 5]);
    house.notify.head.send_replace(6);
    assert_eq!(socket.hear_events(1).await, [6]);
    let asked = house.seen.subscriptions.lock().unwrap()[0].clone();
    assert_eq!((asked.after, asked.device_id.as_str()), (Some(2), "d1"));
}

#[tokio::test]
async fn what_the_client_leaves_out_the_service_decides() {
    let house = house().await;
    let mut socket = house.hello(None).await;
    socket.hear().await;
    assert_eq!(house.seen.subscriptions.lock().unwrap()[0].after, None);
    let mut socket = house.hello(Some(0)).await;
    socket.hear().await;
    assert_eq!(house.seen.subscriptions.lock().unwrap()[1].after, Some(0));
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_without_gaps_or_repeats() {
    let house = house().await;
    let mut socket = house.hello(Some(0)).await;
    assert_eq!(socket.hear().await["type"], "ready");
    let mut expected = 0;
    for round in 1..=4 {
        house.notify.head.send_replace(round * 10);
        let wanted: Vec<i64> = (expected + 1..=round * 10).collect();
        assert_eq!(socket.hear_events(10).await, wanted);
        expected = round * 10;
        let before = house.seen.subscriptions.lock().unwrap().len();
        house.notify.cut.send_modify(|cuts| *cuts += 1);
        eventually(SOON, || async {
            house.seen.subscriptions.lock().unwrap().len() > before
        })
        .await;
    }
    house.notify.head.send_replace(41);
    assert_eq!(socket.hear_events(1).await, [41]);
    let resumed = house
        .seen
        .subscriptions
        .lock()
        .unwrap()
        .last()
        .unwrap()
        .after;
    assert_eq!(resumed, Some(40));
}

#[tokio::test]
async fn acknowledgements_are_stored_and_the_newest_counts() {
    let house = house().await;
    house.notify.head.send_replace(50);
    let mut socket = house.hello(Some(0)).await;
    socket.hear().await;
    socket.hear_events(50).await;
    for seq in 1..=50 {
        socket.say(&json!({"type": "ack", "seq": seq})).await;
    }
    socket.stream.close(None).await.unwrap();
    eventually(SOON, || async {
        house
            .seen
            .acknowledged
            .lock()
            .unwrap()
            .contains(&("d1".to_owned(), 50))
    })
    .await;
    let stored = house.seen.acknowledged.lock().unwrap().clone();
    assert!(
        stored.windows(2).all(|pair| pair[0].1 < pair[1].1),
        "{stored:?}"
    );
    assert!(stored.len() <= 50);
}

#[tokio::test]
async fn what_was_not_sent_cannot_be_acknowledged() {
    let house = house().await;
    house.notify.head.send_replace(2);
    let mut socket = house.hello(Some(0)).await;
    socket.hear().await;
    socket.say(&json!({"type": "ack", "seq": 3})).await;
    assert_eq!(socket.close_code().await, 4400);
}

#[tokio::test]
async fn a_client_that_does_not_say_hello_is_dropped() {
    let house = house_with(|config| config.stream.hello_timeout_ms = 100).await;
    let mut socket = house.socket().await;
    assert_eq!(
        socket.hear().await,
        json!({"type": "error", "code": "no_hello"})
    );
    assert_eq!(socket.close_code().await, 4408);
    assert!(house.seen.subscriptions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bad_frames_close_a_socket() {
    let house = house().await;
    let hello = json!({"type": "hello", "token": house.token}).to_string();
    let big = format!(r#"{{"type":"ack","seq":1,"x":"{}"}}"#, "x".repeat(70_000));
    for first in [
        "",
        "{}",
        "[]",
        r#"{"type":"ack","seq":1}"#,
        r#"{"type":"hello"}"#,
        &big,
    ] {
        let mut socket = house.socket().await;
        socket.say_text(first).await;
        assert_eq!(socket.close_code().await, 4400, "{first:.40}");
    }
    for second in [
        "nonsense",
        r#"{"type":"ack","seq":-1}"#,
        &hello,
        r#"{"type":"what"}"#,
        &big,
    ] {
        let mut socket = house.hello(None).await;
        assert_eq!(socket.hear().await["type"], "ready");
        socket.say_text(second).await;
        assert_eq!(socket.close_code().await, 4400, "{second:.40}");
    }
    use futures::SinkExt;
    let mut socket = house.socket().await;
    socket
        .stream
        .send(Message::binary(hello.into_bytes()))
        .await
        .unwrap();
    assert_eq!(socket.close_code().await, 4400);
}

#[tokio::test]
async fn a_socket_needs_a_good_token() {
    let house = house().await;
    let mut expired = house.claims();
    expired.exp -= 10_000;
    let keys = house.platform.handles().keys;
    let of_a_service = keys
        .service_tokens()
        .issue("wallet-service", Timestamp::now())
        .to_string();
    for (token, code) in [
        (String::new(), "token_invalid"),
        ("a.b.c".to_owned(), "token_invalid"),
        (of_a_service, "token_invalid"),
        (house.issuer.sign(&expired), "token_expired"),
    ] {
        let mut socket = house.socket().await;
        socket.say(&json!({"type": "hello", "token": token})).await;
        assert_eq!(socket.hear().await, json!({"type": "error", "code": code}));
        assert_eq!(socket.close_code().await, 4401);
    }
    assert!(house.seen.subscriptions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_revoked_session_loses_its_open_socket() {
    let house = house().await;
    let claims = house.claims();
    let mut socket = house.socket().await;
    socket
        .say(&json!({"type": "hello", "token": house.issuer.sign(&claims)}))
        .await;
    assert_eq!(socket.hear().await["type"], "ready");
    let mut other = house.hello(None).await;
    assert_eq!(other.hear().await["type"], "ready");
    let until = Timestamp::now() + SignedDuration::from_secs(900);
    house.identity.revoke(claims.sid, until);
    let code = tokio::time::timeout(Duration::from_secs(1), socket.close_code()).await;
    assert_eq!(code.expect("within a second"), 4401);
    house.notify.head.send_replace(1);
    assert_eq!(other.hear_events(1).await, [1]);
}

#[tokio::test]
async fn a_position_that_is_no_longer_kept_is_told() {
    let house = house().await;
    *house.notify.first_kept.lock().unwrap() = 10;
    house.notify.head.send_replace(20);
    let mut socket = house.hello(Some(3)).await;
    assert_eq!(
        socket.hear().await,
        json!({"type": "error", "code": "stream_position_lost"})
    );
    assert_eq!(socket.close_code().await, 4410);
    let mut socket = house.hello(Some(0)).await;
    socket.hear().await;
    assert_eq!(socket.hear_events(2).await, [10, 11]);
}

#[tokio::test]
async fn a_user_holds_a_bounded_number_of_sockets() {
    let house = house_with(|config| config.stream.max_per_user = 2).await;
    let mut first = house.hello(None).await;
    first.hear().await;
    let mut second = house.hello(None).await;
    second.hear().await;
    let mut third = house.hello(None).await;
    assert_eq!(
        third.hear().await,
        json!({"type": "error", "code": "too_many_connections"})
    );
    assert_eq!(third.close_code().await, 4429);
    first.stream.close(None).await.unwrap();
    drop(first);
    eventually(SOON, || async {
        let mut again = house.hello(None).await;
        again.hear().await["type"] == "ready"
    })
    .await;
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_dropped() {
    let house = house_with(|config| config.stream.send_timeout_ms = 200).await;
    *house.notify.filling.lock().unwrap() = 50_000;
    house.notify.head.send_replace(2_000);
    let mut socket = house.hello(Some(0)).await;
    // The gateway gives up while we read nothing; its last word is behind what is under way already.
    upstream_is_dropped(&house).await;
    assert_eq!(socket.close_code().await, 4413);
}

#[tokio::test]
async fn a_large_backlog_arrives_whole_at_a_client_that_pauses() {
    let house = house().await;
    *house.notify.filling.lock().unwrap() = 20_000;
    house.notify.head.send_replace(1_000);
    let mut socket = house.hello(Some(0)).await;
    socket.hear().await;
    let mut numbers = socket.hear_events(10).await;
    // The gateway does not hold a place upstream for a client that does not read.
    upstream_is_dropped(&house).await;
    numbers.extend(socket.hear_events(990).await);
    assert_eq!(numbers, (1..=1_000).collect::<Vec<i64>>());
}

#[tokio::test]
async fn pings_go_out_and_silence_ends_a_socket() {
    let house = house_with(|config| config.stream.ping_interval_ms = 50).await;
    let mut socket = house.hello(None).await;
    // Reading answers pings: the socket stays.
    let mut pings = 0;
    while pings < 6 {
        let next = tokio::time::timeout(SOON, socket.stream.next())
            .await
            .unwrap();
        if let Message::Ping(_) = next.unwrap().unwrap() {
            pings += 1;
        }
    }
    // Not reading does not.
    eventually(SOON, || async {
        house
            .gateway_tasks
            .running()
            .iter()
            .all(|name| name != "gateway-socket")
    })
    .await;
}

#[tokio::test]
async fn shutting_down_sends_clients_elsewhere() {
    let house = house().await;
    let mut waiting = house.socket().await;
    let mut socket = house.hello(None).await;
    socket.hear().await;
    let tasks = house.gateway_tasks.clone();
    let (left, code, other) = tokio::join!(
        tasks.shutdown(SOON),
        socket.close_code(),
        waiting.close_code(),
    );
    assert!(left.is_empty(), "{left:?}");
    assert_eq!((code, other), (1001, 1001));
}

#[tokio::test]
async fn the_stream_is_a_websocket_and_takes_no_token_in_its_address() {
    let house = house().await;
    let refusal = refused(house.get("/v1/stream")).await;
    assert_eq!((refusal.status, refusal.code()), (426, "upgrade_required"));
    let refusal = refused(house.get("/v1/stream?token=secret")).await;
    assert_eq!((refusal.status, refusal.fields()), (400, vec!["token"]));
}
