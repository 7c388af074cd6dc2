use std::collections::BTreeMap;

use jiff::SignedDuration;
use platform::test_kit::eventually;
use platform::time;
use scheduler_service::providers::simulator::fate;

use crate::harness::{PATIENCE, Service, numbers};

#[tokio::test]
async fn a_thousand_numbers_reach_their_foretold_states_once() {
    let service = Service::start(|config| {
        config.simulator.undeliverable = 0.1;
        config.simulator.expired = 0.05;
        config.simulator.rejected = 0.05;
        config.simulator.deleted = 0.05;
    })
    .await;
    let numbers = numbers(1000);
    let id = service.created("a", &numbers).await;
    let progress = service.play_to_end(&id).await;

    let mut foretold: BTreeMap<String, i64> = BTreeMap::new();
    for number in &numbers {
        let end = fate(&service.config.simulator, number).end.unwrap();
        *foretold.entry(end.as_str().to_owned()).or_default() += 1;
    }
    assert_eq!(foretold.len(), 5, "the test wants every fate: {foretold:?}");
    assert_eq!(
        progress.by_state.into_iter().collect::<BTreeMap<_, _>>(),
        foretold
    );
    assert_eq!(
        (progress.status.as_str(), progress.total),
        ("finished", 1000)
    );
    service.assert_sent_once(&numbers);
    for message in service.messages(&id, "").await {
        let end = fate(&service.config.simulator, &message.to).end.unwrap();
        assert_eq!(message.state, end.as_str());
        assert!(!message.provider_message_id.is_empty());
        assert!(message.sent_at.is_some());
        assert_eq!(message.error.is_empty(), message.state == "DELIVRD");
    }
    // The fact is on its way after the progress says it.
    let told = eventually(PATIENCE, || async {
        let told = service.finished.lock().unwrap().clone();
        (!told.is_empty()).then_some(told)
    })
    .await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].schedule_id.as_str(), told[0].status.as_str()),
        (&*id, "finished")
    );
    assert_eq!(
        (told[0].total, told[0].delivered),
        (1000, foretold["DELIVRD"])
    );
    assert_eq!(told[0].user_id, service.user.to_string());
    service.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_before_its_time() {
    let service = Service::start(|_| {}).await;
    let mut order = service.order("a", &numbers(3));
    let clock = service.platform.manual_clock();
    let start = service.platform.clock().now() + SignedDuration::from_hours(1);
    order.run_at = Some(time::to_proto(start));
    let id = service.create(order).await.unwrap().schedule.unwrap().id;
    clock.advance(SignedDuration::from_mins(59));
    assert_eq!(service.progress(&id).await.by_state["QUEUED"], 3);
    assert_eq!(service.get(&id).await.unwrap().status, "scheduled");
    assert!(service.journal().is_empty());
    clock.advance(SignedDuration::from_mins(1));
    let progress = service.play_to_end(&id).await;
    let started = time::from_proto("started_at", &progress.started_at)
        .unwrap()
        .unwrap();
    let late_us = time::to_micros(started) - time::to_micros(start);
    assert!((0..1_000_000).contains(&late_us), "{late_us}");
    service.assert_sent_once(&numbers(3));
    service.stop().await;
}

#[tokio::test]
async fn messages_that_the_provider_loses_become_unknown_at_the_deadline() {
    let service = Service::start(|config| {
        config.simulator.lost = 1.0;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
        config.sending.deadline_s = 120;
    })
    .await;
    let id = service.created("a", &numbers(20)).await;
    service
        .pass_time_until(|| async {
            service.progress(&id).await.by_state.get("ENROUTE") == Some(&20)
        })
        .await;
    let clock = service.platform.manual_clock();
    clock.advance(SignedDuration::from_secs(100));
    assert_eq!(service.progress(&id).await.by_state["ENROUTE"], 20);
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.by_state["UNKNOWN"], 20);
    service.assert_sent_once(&numbers(20));
    let lasted = progress.finished_at.unwrap().seconds - progress.started_at.unwrap().seconds;
    assert!((119..=125).contains(&lasted), "{lasted} s");
    service.stop().await;
}
