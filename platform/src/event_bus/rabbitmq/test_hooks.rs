//! What tests do to a broker behind the back of the bus.

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;

use super::RabbitMqBus;
use super::connection::{Dialler, bounded, name};

/// How long one step may take.
const STEP: Duration = Duration::from_secs(10);

/// What is wrong with publishing.
#[derive(Default)]
pub(super) struct Faults {
    blocked: AtomicBool,
    unconfirmed: AtomicBool,
}

impl Faults {
    pub(super) fn blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst)
    }

    pub(super) fn any(&self) -> bool {
        self.blocked() || self.unconfirmed.load(Ordering::SeqCst)
    }
}

/// The broker of a bus, seen past the bus.
pub(crate) struct BackDoor {
    dialler: Dialler,
    exchange: String,
    queues: Vec<String>,
    exchanges: Vec<String>,
}

impl RabbitMqBus {
    /// A way to the broker at `url` past the bus. It knows the names of what was subscribed so far.
    pub(crate) fn back_door(&self, url: &str) -> anyhow::Result<BackDoor> {
        let (queues, exchanges) = self.topology.names();
        Ok(BackDoor {
            dialler: Dialler {
                uri: url.parse().map_err(anyhow::Error::msg)?,
                name: "test".to_owned(),
                timeout: STEP,
            },
            exchange: self.topology.events(),
            queues,
            exchanges,
        })
    }

    /// Takes nothing for publishing any more, or again, as under an alarm of memory or disk. What is taken goes on.
    pub(crate) fn block(&self, blocked: bool) {
        self.publisher
            .faults
            .blocked
            .store(blocked, Ordering::SeqCst);
    }

    /// Confirms nothing any more, or again. What is taken goes on.
    pub(crate) fn leave_unconfirmed(&self, unconfirmed: bool) {
        let fault = &self.publisher.faults.unconfirmed;
        fault.store(unconfirmed, Ordering::SeqCst);
    }

    /// Loses both connections at once, as when the process were killed.
    pub(crate) fn cut(&self) {
        self.publisher.link.cut();
        self.consuming.cut();
    }

    /// Name of the queue of a consumer.
    pub(crate) fn queue_of(&self, consumer: &str) -> String {
        self.topology.queue(consumer)
    }
}

impl BackDoor {
    /// Removes the queues and exchanges, from outside of any runtime.
    pub(crate) fn remove_everything(self) -> anyhow::Result<()> {
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(self.remove_all())
        };
        std::thread::spawn(work)
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread panicked")))
    }

    async fn remove_all(&self) -> anyhow::Result<()> {
        let line = self.dialler.dial().await?;
        let channel = bounded(STEP, line.connection.create_channel()).await??;
        for queue in &self.queues {
            let deleted = channel.queue_delete(name(queue)?, QueueDeleteOptions::default());
            bounded(STEP, deleted).await??;
        }
        for exchange in &self.exchanges {
            let options = ExchangeDeleteOptions::default();
            let deleted = channel.exchange_delete(name(exchange)?, options);
            bounded(STEP, deleted).await??;
        }
        bounded(STEP, line.connection.close(200, "done".into())).await??;
        Ok(())
    }

    /// Removes one queue.
    pub(crate) async fn remove_queue(&self, queue: &str) -> anyhow::Result<()> {
        let line = self.dialler.dial().await?;
        let channel = bounded(STEP, line.connection.create_channel()).await??;
        let deleted = channel.queue_delete(name(queue)?, QueueDeleteOptions::default());
        bounded(STEP, deleted).await??;
        Ok(())
    }

    /// Publishes anything to the exchange of facts.
    pub(crate) async fn publish(
        &self,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let line = self.dialler.dial().await?;
        let channel: Channel = bounded(STEP, line.connection.create_channel()).await??;
        bounded(
            STEP,
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await??;
        let published = channel.basic_publish(
            name(&self.exchange)?,
            name(routing_key)?,
            BasicPublishOptions::default(),
            body,
            properties,
        );
        let confirm = bounded(STEP, published).await??;
        anyhow::ensure!(bounded(STEP, confirm).await??.is_ack(), "not confirmed");
        Ok(())
    }

    /// Takes so many messages from a queue and dies with them, unacknowledged. Gives how many there were within a moment.
    pub(crate) async fn take_and_die(&self, queue: &str, count: usize) -> anyhow::Result<usize> {
        let line = self.dialler.dial().await?;
        let channel = bounded(STEP, line.connection.create_channel()).await??;
        let taking = channel.basic_consume(
            name(queue)?,
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let messages = bounded(STEP, taking).await??;
        let mut messages = std::pin::pin!(messages.take(count));
        let mut taken = 0;
        while let Ok(Some(message)) = bounded(Duration::from_millis(500), messages.next()).await {
            message?;
            taken += 1;
        }
        line.cut();
        Ok(taken)
    }
}
