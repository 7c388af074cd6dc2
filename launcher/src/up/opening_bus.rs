use std::sync::Arc;

use async_trait::async_trait;
use platform::Tasks;
use platform::consumer::Consumer;
use platform::event_bus::{Envelope, EventBus, PublishError};
use tokio::sync::watch;

/// A bus on which facts wait until every service has subscribed.
///
/// In one process the subscribers appear one after the other. A relay that found facts from before a crash in
/// its outbox and published them at once would call them delivered although nobody was there yet.
pub(super) struct OpeningBus {
    inner: Arc<dyn EventBus>,
    open: watch::Sender<bool>,
}

impl OpeningBus {
    /// A bus that is still closed.
    pub(super) fn new(inner: Arc<dyn EventBus>) -> Self {
        Self {
            inner,
            open: watch::Sender::new(false),
        }
    }

    /// Everybody is there: lets facts through from now on.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }
}

#[async_trait]
impl EventBus for OpeningBus {
    async fn publish(&self, events: Vec<Envelope>) -> Vec<Result<(), PublishError>> {
        // The sender lives as long as this bus, so waiting ends only by opening.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        self.inner.publish(events).await
    }

    async fn subscribe(
        &self,
        consumer: Arc<Consumer>,
        tasks: &Tasks,
    ) -> Result<(), platform::Error> {
        self.inner.subscribe(consumer, tasks).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use platform::event_bus::InProcessBus;

    use super::*;

    #[tokio::test]
    async fn facts_wait_until_the_bus_opens() {
        let bus = OpeningBus::new(Arc::new(InProcessBus::default()));
        let mut publishing = bus.publish(vec![Envelope::default()]);
        assert!(
            (&mut publishing).now_or_never().is_none(),
            "published to nobody"
        );
        bus.open();
        assert_eq!(publishing.await.len(), 1);
        assert_eq!(bus.publish(vec![Envelope::default()]).await.len(), 1);
    }
}
