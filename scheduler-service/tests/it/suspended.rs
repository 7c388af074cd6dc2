//! Replicas that stand still where it hurts most, on clocks of their own, while another one goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::SignedDuration;
use platform::clock::Clock;
use platform::test_kit::{ManualClock, eventually};

use scheduler_service::providers::SmsProvider;

use crate::harness::{PATIENCE, Service, numbers};
use crate::providers::{At, Deduping, Gated, Shared, Suspended};

/// Longer than a lease and its grace.
const LONG: SignedDuration = SignedDuration::from_secs(31);

async fn prepared() -> Option<Service> {
    Service::prepare_for_replicas(|config| {
        config.sending.batch_size = 10;
        config.sending.concurrency = 1;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
    })
    .await
}

/// A clock that begins with the platform's and then stands.
fn own_clock(service: &Service) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(service.platform.clock().now()))
}

async fn sent_by_now(service: &Service, messages: usize) {
    eventually(PATIENCE, || async { service.journal().len() == messages }).await;
}

#[tokio::test]
async fn who_was_suspended_within_a_call_neither_ends_it_nor_begins_the_next() {
    let Some(mut service) = prepared().await else {
        return;
    };
    let clock = own_clock(&service);
    let sleeper = Suspended::new(service.simulator().await, At::AStep);
    sleeper.freezer.set(true);
    service.join(sleeper.clone(), clock.clone()).await;
    let numbers = numbers(10);
    let id = service.created("a", &numbers).await;
    eventually(PATIENCE, || async { sleeper.freezer.held() == 1 }).await;
    let other: Arc<dyn SmsProvider> = Arc::new(service.simulator().await);
    let second = service.join(other.clone(), service.platform.clock()).await;
    assert_eq!(service.progress(&id).await.by_state["SENDING"], 10);
    service.platform.manual_clock().advance(LONG);
    // The other one asks, hears that the provider never had them, and sends all ten.
    sent_by_now(&service, 10).await;

    clock.advance(LONG);
    sleeper.freezer.set(false);
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.by_state["DELIVRD"], 10);
    // When the first replica sends something new, it is through with what it had claimed.
    service.kill_replica(second);
    clock.advance(service.platform.clock().now().duration_since(clock.now()));
    let next = service.created("b", &["+27831234567"]).await;
    sent_by_now(&service, 11).await;
    service.join(other, service.platform.clock()).await;
    service.play_to_end(&next).await;
    let mut all = numbers;
    all.push("+27831234567".to_owned());
    service.assert_sent_once(&all);
    // What the killed one was about to tell is told once its hold of the outbox has ended.
    let clock = service.platform.manual_clock();
    clock.advance(SignedDuration::from_secs(61));
    service.stop().await;
}

#[tokio::test]
async fn what_a_suspended_send_brings_late_is_taken_once_by_a_provider_that_dedupes() {
    let Some(mut service) = prepared().await else {
        return;
    };
    let clock = own_clock(&service);
    let deduping = Arc::new(Deduping::new(service.simulator().await));
    let sleeper = Suspended::new(Shared(deduping.clone()), At::TheSend);
    sleeper.freezer.set(true);
    service.join(sleeper.clone(), clock.clone()).await;
    let numbers = numbers(10);
    let id = service.created("a", &numbers).await;
    eventually(PATIENCE, || async { sleeper.freezer.held() == 1 }).await;
    let other = Arc::new(Shared(deduping.clone()));
    service.join(other, service.platform.clock()).await;
    service.platform.manual_clock().advance(LONG);
    let given = || deduping.given.load(Ordering::SeqCst);
    // Until then the provider is busy with the other one, and the late call would be given up while it waits its turn.
    eventually(PATIENCE, || async { given() == 10 }).await;

    // By its own clock, which is far behind, its lease still covers a call: only the row can tell that it does not.
    clock.advance(SignedDuration::from_secs(2));
    sleeper.freezer.set(false);
    // The first call of the suspended replica arrives, its second one is never made.
    eventually(PATIENCE, || async { given() == 15 }).await;
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.by_state["DELIVRD"], 10);
    assert_eq!(given(), 15);
    service.assert_sent_once(&numbers);
    service.stop().await;
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_sent_again_to_a_provider_that_dedupes() {
    let Some(mut service) = prepared().await else {
        return;
    };
    let mut deduping = Deduping::new(service.simulator().await);
    deduping.finds_by_reference = false;
    let deduping = Arc::new(deduping);
    let sleeper = Suspended::new(Shared(deduping.clone()), At::AStep);
    sleeper.freezer.set(true);
    let first = service
        .join(sleeper.clone(), service.platform.clock())
        .await;
    let numbers = numbers(10);
    let id = service.created("a", &numbers).await;
    eventually(PATIENCE, || async { sleeper.freezer.held() == 1 }).await;
    service.kill_replica(first);
    sleeper.freezer.set(false);
    let other = Arc::new(Shared(deduping));
    service.join(other, service.platform.clock()).await;
    service.platform.manual_clock().advance(LONG);
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.by_state["DELIVRD"], 10);
    service.assert_sent_once(&numbers);
    service.stop().await;
}

#[tokio::test]
async fn a_slow_call_is_given_up_before_another_replica_asks() {
    let Some(mut service) = prepared().await else {
        return;
    };
    let slow = Gated::new(service.simulator().await, 0, usize::MAX >> 4);
    service.join(slow.clone(), service.platform.clock()).await;
    let numbers = numbers(10);
    let id = service.created("a", &numbers).await;
    eventually(PATIENCE, || async { slow.stopped(0, 0).0 == 1 }).await;
    let other = Suspended::new(service.simulator().await, At::AStep);
    service.join(other.clone(), service.platform.clock()).await;
    // The call has ended by the clock, the lease has not, nor its grace.
    let clock = service.platform.manual_clock();
    clock.advance(SignedDuration::from_secs(11));
    clock.advance(SignedDuration::from_secs(18));
    assert_eq!(service.progress(&id).await.by_state["SENDING"], 10);
    assert_eq!(other.lookups.load(Ordering::SeqCst), 0);
    clock.advance(SignedDuration::from_secs(2));
    slow.before.add_permits(100);
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.by_state["DELIVRD"], 10);
    assert_eq!(
        slow.passed.load(Ordering::SeqCst) + 1,
        slow.came.load(Ordering::SeqCst)
    );
    service.assert_sent_once(&numbers);
    service.stop().await;
}

#[tokio::test]
async fn a_clock_that_runs_ahead_by_less_than_the_grace_asks_nobody_too_early() {
    let Some(mut service) = prepared().await else {
        return;
    };
    let slow = Gated::new(service.simulator().await, 0, usize::MAX >> 4);
    service.join(slow.clone(), service.platform.clock()).await;
    let numbers = numbers(10);
    let id = service.created("a", &numbers).await;
    eventually(PATIENCE, || async { slow.stopped(0, 0).0 == 1 }).await;
    let ahead = own_clock(&service);
    ahead.advance(SignedDuration::from_secs(9));
    let other = Suspended::new(service.simulator().await, At::AStep);
    service.join(other.clone(), ahead.clone()).await;
    for clock in [&service.platform.manual_clock(), &ahead] {
        clock.advance(SignedDuration::from_millis(9_900));
    }
    // The other replica is awake: it sends what is new.
    let next = service.created("b", &["+27831234567"]).await;
    eventually(PATIENCE, || async { service.journal().len() == 1 }).await;
    assert_eq!(other.lookups.load(Ordering::SeqCst), 0);
    slow.before.add_permits(100);
    service.play_to_end(&next).await;
    service.play_to_end(&id).await;
    let mut all = numbers;
    all.push("+27831234567".to_owned());
    service.assert_sent_once(&all);
    service.stop().await;
}
