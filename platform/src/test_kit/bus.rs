//! The bus of a test: what it has taken was committed.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::DEADLINE;
use super::servers::{Broker, OwnBus};
use crate::consumer::Consumer;
use crate::event_bus::{Envelope, EventBus, PublishError};
use crate::{Error, Tasks};

/// Pause between two looks at an inbox.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A bus over a real broker with the promise of the one in the process: an event is confirmed once every subscriber has
/// committed or parked it. So the same tests hold on both.
pub(super) struct CommittedBus {
    broker: Broker,
    inner: OnceLock<Arc<dyn EventBus>>,
    own: Mutex<Option<OwnBus>>,
    subscribed: Mutex<Vec<(Arc<Consumer>, CancellationToken)>>,
}

impl CommittedBus {
    /// A bus that connects when it is used first.
    pub(super) fn new(broker: Broker) -> Self {
        Self {
            broker,
            inner: OnceLock::new(),
            own: Mutex::default(),
            subscribed: Mutex::default(),
        }
    }

    fn inner(&self) -> &Arc<dyn EventBus> {
        self.inner.get_or_init(|| {
            let bus = self.broker.bus();
            *self.own() = bus.rabbitmq;
            bus.bus
        })
    }

    /// Ends the bus, whoever still holds it, and takes its queues along.
    pub(super) fn close(&self) {
        let own = self.own().take();
        drop(own);
    }

    fn own(&self) -> MutexGuard<'_, Option<OwnBus>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribed(&self) -> MutexGuard<'_, Vec<(Arc<Consumer>, CancellationToken)>> {
        self.subscribed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventBus for CommittedBus {
    async fn publish(&self, events: Vec<Envelope>) -> Vec<Result<(), PublishError>> {
        let outcomes = until_confirmed(self.inner().as_ref(), &events).await;
        let takers = self.subscribed().clone();
        for (consumer, stopped) in takers {
            let confirmed = events.iter().zip(&outcomes).filter(|(_, o)| o.is_ok());
            let ids = confirmed
                .filter(|(event, _)| consumer.types().contains(&event.r#type.as_str()))
                .filter_map(|(event, _)| Uuid::try_parse(&event.id).ok())
                .collect::<Vec<_>>();
            let settled = tokio::time::timeout(DEADLINE, settle(&consumer, &ids));
            tokio::select! {
                // It comes when the consumer runs again.
                () = stopped.cancelled() => {}
                settled = settled => if settled.is_err() {
                    tracing::warn!(consumer = consumer.name(), "events were not settled in time");
                }
            }
        }
        outcomes
    }

    fn is_available(&self) -> bool {
        self.inner().is_available()
    }

    async fn subscribe(&self, consumer: Arc<Consumer>, tasks: &Tasks) -> Result<(), Error> {
        self.subscribed()
            .push((Arc::clone(&consumer), tasks.token()));
        self.inner().subscribe(consumer, tasks).await
    }
}

/// Publishes again what was not confirmed, as a relay does, for a while.
pub(super) async fn until_confirmed(
    bus: &dyn EventBus,
    events: &[Envelope],
) -> Vec<Result<(), PublishError>> {
    let end = tokio::time::Instant::now() + DEADLINE;
    let mut outcomes = bus.publish(events.to_vec()).await;
    while outcomes.iter().any(Result::is_err) && tokio::time::Instant::now() < end {
        tokio::time::sleep(LOOK_EVERY).await;
        let (again, places): (Vec<_>, Vec<_>) = events
            .iter()
            .zip(&outcomes)
            .enumerate()
            .filter(|(_, (_, outcome))| outcome.is_err())
            .map(|(place, (event, _))| (event.clone(), place))
            .unzip();
        for (place, outcome) in places.into_iter().zip(bus.publish(again).await) {
            outcomes[place] = outcome;
        }
    }
    outcomes
}

async fn settle(consumer: &Consumer, ids: &[Uuid]) {
    if ids.is_empty() {
        return;
    }
    loop {
        if let Ok(settled) = consumer.settled(ids).await
            && ids.iter().all(|id| settled.contains(id))
        {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
