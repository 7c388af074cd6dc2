use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// The simulator behind a gate: each submission waits for a permit.
struct Gated {
    simulator: Simulator,
    gate: Semaphore,
    waiting: AtomicUsize,
}

#[async_trait]
impl SmsProvider for Gated {
    fn name(&self) -> &str {
        self.simulator.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.simulator.capabilities()
    }

    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.simulator.submit(batch).await
    }

    async fn query(&self, ids: &[String]) -> Vec<Queried> {
        self.simulator.query(ids).await
    }

    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp> {
        self.simulator.lookup(references).await
    }
}

#[tokio::test]
async fn what_is_under_way_runs_to_its_end_and_the_rest_is_struck() {
    let mut service = Service::prepare(|config| {
        config.sending.batch_size = 10;
        config.sending.concurrency = 1;
        config.simulator.undeliverable = 0.0;
        config.simulator.expired = 0.0;
    })
    .await;
    let gated = Arc::new(Gated {
        simulator: service.simulator().await,
        gate: Semaphore::new(1),
        waiting: AtomicUsize::new(0),
    });
    service.launch(gated.clone()).await;
    let id = service.created("a", &numbers(2500)).await;
    eventually(PATIENCE, || async {
        gated.waiting.load(Ordering::SeqCst) == 2
    })
    .await;
    let cancelled = service.cancel(&id).await.unwrap();
    assert_eq!(cancelled.status, "cancelled");
    assert_eq!(service.cancel(&id).await.unwrap().status, "cancelled");
    gated.gate.add_permits(1);
    let progress = service.play_to_end(&id).await;
    assert_eq!(progress.status, "cancelled");
    assert_eq!(
        (progress.by_state["CANCELLED"], progress.by_state["DELIVRD"]),
        (2480, 20)
    );
    assert_eq!(service.journal().len(), 20);
    assert_eq!(gated.waiting.load(Ordering::SeqCst), 2);
    // The fact is on its way after the progress says it.
    let told = eventually(PATIENCE, || async {
        let told = service.finished.lock().unwrap().clone();
        (!told.is_empty()).then_some(told)
    })
    .await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].status.as_str(), told[0].total, told[0].delivered),
        ("cancelled", 2500, 20)
    );
    service.stop().await;
}

#[tokio::test]
async fn a_schedule_can_be_stopped_before_its_time() {
    let service = Service::start(|_| {}).await;
    let mut order = service.order("a", &numbers(30));
    let start = service.platform.clock().now() + SignedDuration::from_mins(5);
    order.run_at = Some(platform::time::to_proto(start));
    let id = service.create(order).await.unwrap().schedule.unwrap().id;
    let cancelled = service.cancel(&id).await.unwrap();
    assert!(cancelled.finished_at.is_some() && cancelled.started_at.is_none());
    service
        .platform
        .manual_clock()
        .advance(SignedDuration::from_mins(6));
    assert_eq!(service.progress(&id).await.by_state["CANCELLED"], 30);
    assert!(service.journal().is_empty());
    service.stop().await;
}

#[tokio::test]
async fn what_has_ended_cannot_be_stopped() {
    let service = Service::start(|_| {}).await;
    let id = service.created("a", &numbers(3)).await;
    service.play_to_end(&id).await;
    assert_eq!(
        service.cancel(&id).await.unwrap_err().reason(),
        "schedule_finished"
    );
    service.stop().await;
}
