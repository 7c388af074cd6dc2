//! What every fan-out promises, as tests that each adapter passes.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{join, join_all};
use tokio::time::timeout;

use super::DEADLINE;
use crate::fanout::{Fanout, FanoutReceiver, Lagged};

/// More pokes than any adapter keeps for one receiver.
const FLOOD: usize = 1000;
const PAIRS: usize = 10;
const ROUNDS: usize = 50;

/// Runs every test of the suite, on fan-outs of two processes that reach each other; they may be the same.
///
/// # Panics
/// When the fan-out breaks a promise.
pub async fn run(here: Arc<dyn Fanout>, there: Arc<dyn Fanout>) {
    every_listener_of_the_topic_is_poked_and_no_other(&*here, &*there).await;
    payloads_and_names_of_topics_arrive_as_they_are(&*here, &*there).await;
    nobody_listening_is_no_error(&*here).await;
    who_falls_behind_is_told(&*here, &*there).await;
    a_listener_that_goes_leaves_the_others(&*here, &*there).await;
    no_poke_is_lost_however_fast_listeners_come_and_go(&here, &there).await;
}

/// The next poke, which must come.
async fn next(receiver: &mut FanoutReceiver) -> Result<Bytes, Lagged> {
    timeout(DEADLINE, receiver.recv())
        .await
        .expect("a poke within the deadline")
}

async fn poke(fanout: &dyn Fanout, topic: &str, payload: &'static str) {
    fanout
        .publish(topic, Bytes::from_static(payload.as_bytes()))
        .await
        .expect("published");
}

async fn listen(fanout: &dyn Fanout, topic: &str) -> FanoutReceiver {
    fanout.subscribe(topic).await.expect("a listener")
}

async fn every_listener_of_the_topic_is_poked_and_no_other(here: &dyn Fanout, there: &dyn Fanout) {
    let mut one = listen(here, "a").await;
    let mut two = listen(here, "a").await;
    let mut far = listen(there, "a").await;
    let mut other = listen(there, "b").await;
    poke(here, "a", "1").await;
    for receiver in [&mut one, &mut two, &mut far] {
        assert_eq!(next(receiver).await.expect("a poke"), "1");
    }
    poke(here, "b", "2").await;
    assert_eq!(next(&mut other).await.expect("a poke"), "2");
    poke(there, "a", "3").await;
    for receiver in [&mut one, &mut two, &mut far] {
        assert_eq!(next(receiver).await.expect("a poke"), "3");
    }
}

async fn payloads_and_names_of_topics_arrive_as_they_are(here: &dyn Fanout, there: &dyn Fanout) {
    let long = "x".repeat(4096);
    for topic in ["", "a b", "ä*?[x]", "a\r\nPING\r\n", "{slot}", &long] {
        let mut receiver = listen(here, topic).await;
        for payload in [&b""[..], b"\0\xff\r\n+OK", &[7; 70_000]] {
            let sent = Bytes::copy_from_slice(payload);
            there.publish(topic, sent).await.expect("published");
            assert_eq!(next(&mut receiver).await.expect("a poke"), payload);
        }
    }
}

async fn nobody_listening_is_no_error(here: &dyn Fanout) {
    poke(here, "nobody", "1").await;
    let mut late = listen(here, "nobody").await;
    poke(here, "nobody", "2").await;
    assert_eq!(next(&mut late).await.expect("a poke"), "2");
}

async fn who_falls_behind_is_told(here: &dyn Fanout, there: &dyn Fanout) {
    let mut slow = listen(here, "flood").await;
    let mut witness = listen(here, "end").await;
    for _ in 0..FLOOD {
        there
            .publish("flood", Bytes::new())
            .await
            .expect("published");
    }
    poke(there, "end", "").await;
    next(&mut witness).await.expect("a poke");
    assert_eq!(next(&mut slow).await, Err(Lagged));
    // And goes on with the latest.
    assert!(next(&mut slow).await.is_ok());
}

async fn a_listener_that_goes_leaves_the_others(here: &dyn Fanout, there: &dyn Fanout) {
    let one = listen(here, "stay").await;
    let mut two = listen(here, "stay").await;
    drop(one);
    poke(there, "stay", "1").await;
    assert_eq!(next(&mut two).await.expect("a poke"), "1");
    drop(two);
    let mut three = listen(here, "stay").await;
    poke(there, "stay", "2").await;
    assert_eq!(next(&mut three).await.expect("a poke"), "2");
}

/// The departure of the last listener is under way when the next one comes.
async fn no_poke_is_lost_however_fast_listeners_come_and_go(
    here: &Arc<dyn Fanout>,
    there: &Arc<dyn Fanout>,
) {
    let one_poke = |topic: String, mine: Bytes| {
        let (here, there) = (Arc::clone(here), Arc::clone(there));
        async move {
            let mut receiver = listen(&*here, &topic).await;
            there
                .publish(&topic, mine.clone())
                .await
                .expect("published");
            // That of the other listener may come before.
            while next(&mut receiver).await.expect("a poke") != mine {}
        }
    };
    let pair = |number: usize| async move {
        let topic = || format!("busy/{number}");
        for _ in 0..ROUNDS {
            let (one, two) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
            join(one_poke(topic(), one), one_poke(topic(), two)).await;
        }
    };
    join_all((0..PAIRS).map(pair)).await;
}
