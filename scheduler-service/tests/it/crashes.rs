use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::SignedDuration;
use platform::test_kit::eventually;
use scheduler_service::Simulator;
use scheduler_service::providers::{
    Capabilities, LookedUp, Queried, SmsProvider, Submission, Submitted,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::harness::{PATIENCE, Service, numbers};

/// Where a call of [`Hanging`] stops for ever.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    BeforeTheProviderHasIt,
    AfterTheProviderHasIt,
    Never,
}

/// The simulator behind a line that goes dead at the `nth` submission.
struct Hanging {
    simulator: Simulator,
    stop: Stop,
    nth: usize,
    calls: AtomicUsize,
    hanging: AtomicUsize,
    finds_by_reference: bool,
}

/// The simulator, whose first submission waits for a permit before it arrives.
struct Delayed {
    simulator: Simulator,
    gate: Semaphore,
    calls: AtomicUsize,
    asked_for: Mutex<HashSet<Uuid>>,
}

#[async_trait]
impl SmsProvider for Delayed {
    fn name(&self) -> &str {
        self.simulator.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.simulator.capabilities()
    }

    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted> {
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0 {
            self.gate.acquire().await.unwrap().forget();
        }
        self.simulator.submit(batch).await
    }

    async fn query(&self, ids: &[String]) -> Vec<Queried> {
        self.simulator.query(ids).await
    }

    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp> {
        self.asked_for.lock().unwrap().extend(references);
        self.simulator.lookup(references).await
    }
}

impl Hanging {
    fn new(simulator: Simulator, stop: Stop, nth: usize) -> Self {
        Self {
            simulator,
            stop,
            nth,
            calls: AtomicUsize::new(0),
            hanging: AtomicUsize::new(0),
            finds_by_reference: true,
        }
    }
}

#[async_trait]
impl SmsProvider for Hanging {
    fn name(&self) -> &str {
        self.simulator.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            finds_by_reference: self.finds_by_reference,
            ..self.simulator.capabilities()
        }
    }

    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted> {
        let dead = self.calls.fetch_add(1, Ordering::SeqCst) + 1 >= self.nth;
        if dead && self.stop == Stop::BeforeTheProviderHasIt {
            self.hanging.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        let answers = self.simulator.submit(batch).await;
        if dead && self.stop == Stop::AfterTheProviderHasIt {
            self.hanging.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        answers
    }

    async fn query(&self, ids: &[String]) -> Vec<Queried> {
        self.simulator.query(ids).await
    }

    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp> {
        self.simulator.lookup(references).await
    }
}

/// Kills the scheduler while `stop` holds up calls, starts it again, and plays to the end.
async fn killed_and_started_again(stop: Stop) {
    let mut service = Service::prepare(|config| {
        config.sending.batch_size = 20;
        config.sending.concurrency = 3;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
    })
    .await;
    let hanging = Arc::new(Hanging::new(service.simulator().await, stop, 3));
    service.launch(hanging.clone()).await;
    let numbers = numbers(300);
    let id = service.created("a", &numbers).await;
    eventually(PATIENCE, || async {
        hanging.hanging.load(Ordering::SeqCst) == 3
    })
    .await;
    let progress = service.progress(&id).await;
    assert!(progress.by_state["SENDING"] >= 60, "{progress:?}");
    service.kill();
    drop(hanging);

    service.launch_with_simulator().await;
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.by_state["DELIVRD"], 300, "{progress:?}");
    service.assert_sent_once(&numbers);
    eventually(PATIENCE, || async {
        !service.finished.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(service.finished.lock().unwrap().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn what_the_provider_had_when_we_died_is_not_sent_again() {
    killed_and_started_again(Stop::AfterTheProviderHasIt).await;
}

#[tokio::test]
async fn what_the_provider_did_not_have_when_we_died_is_sent_once() {
    killed_and_started_again(Stop::BeforeTheProviderHasIt).await;
}

#[tokio::test]
async fn where_the_provider_cannot_tell_nothing_is_sent_again() {
    let mut service = Service::prepare(|config| {
        config.sending.batch_size = 20;
        config.sending.concurrency = 1;
        config.sending.deadline_s = 300;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
    })
    .await;
    let mut hanging = Hanging::new(service.simulator().await, Stop::AfterTheProviderHasIt, 1);
    hanging.finds_by_reference = false;
    let hanging = Arc::new(hanging);
    service.launch(hanging.clone()).await;
    let id = service.created("a", &numbers(30)).await;
    eventually(PATIENCE, || async {
        hanging.hanging.load(Ordering::SeqCst) == 1
    })
    .await;
    service.kill();

    let mut dumb = Hanging::new(service.simulator().await, Stop::Never, 0);
    dumb.finds_by_reference = false;
    service.launch(Arc::new(dumb)).await;
    service
        .pass_time_until(|| async {
            service.progress(&id).await.by_state.get("DELIVRD") == Some(&10)
        })
        .await;
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_secs(240));
    assert_eq!(service.progress(&id).await.by_state["SENDING"], 20);
    let progress = service.play_to_end(&id).await;
    assert_eq!(
        (progress.by_state["UNKNOWN"], progress.by_state["DELIVRD"]),
        (20, 10)
    );
    service.assert_sent_once(&numbers(30));
    service.stop().await;
}

#[tokio::test]
async fn a_provider_that_stops_answering_is_asked_before_anything_is_sent_again() {
    let mut service = Service::prepare(|config| {
        config.sending.batch_size = 20;
        config.sending.concurrency = 1;
        config.sending.call_timeout_ms = 200;
        config.sending.lease_ms = 5_000;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
    })
    .await;
    // Every submission arrives, none is answered: all that is known comes from looking up.
    let silent = Hanging::new(service.simulator().await, Stop::AfterTheProviderHasIt, 1);
    service.launch(Arc::new(silent)).await;
    let id = service.created("a", &numbers(60)).await;
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.by_state["DELIVRD"], 60);
    service.assert_sent_once(&numbers(60));
    service.stop().await;
}

#[tokio::test]
async fn a_call_that_outlives_its_lease_is_waited_for() {
    let mut service = Service::prepare(|config| {
        config.sending.concurrency = 2;
        // In real time: the call is not given up within this test.
        config.sending.call_timeout_ms = 600_000;
        config.sending.lease_ms = 1_200_000;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
    })
    .await;
    let delayed = Arc::new(Delayed {
        simulator: service.simulator().await,
        gate: Semaphore::new(0),
        calls: AtomicUsize::new(0),
        asked_for: Mutex::default(),
    });
    service.launch(delayed.clone()).await;
    let numbers = numbers(20);
    let held_up = service.created("a", &numbers[..10]).await;
    eventually(PATIENCE, || async {
        delayed.calls.load(Ordering::SeqCst) == 1
    })
    .await;
    // The machine sleeps: the lease ends while the call stands still. (`play_to_end` shows that the tracker was there.)
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_secs(1_201));
    let other = service.created("b", &numbers[10..]).await;
    service.play_to_end(&other).await;
    assert_eq!(service.progress(&held_up).await.by_state["SENDING"], 10);
    assert!(delayed.asked_for.lock().unwrap().is_empty());
    delayed.gate.add_permits(1);
    let progress = service.play_to_end(&held_up).await;
    assert_eq!(progress.by_state["DELIVRD"], 10);
    service.assert_sent_once(&numbers);
    service.stop().await;
}
