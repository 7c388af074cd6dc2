//! One channel that takes messages from one queue until something ends it.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use proto::subscriptions::Subscription;
use tokio_util::sync::CancellationToken;

use super::connection::{CLOSING, Link, bounded, name};
use super::topology::Topology;
use crate::consumer::Consumer;

/// First pause before a queue is taken from again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause before the next attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where a session takes from.
pub(super) struct Source {
    pub(super) link: Link,
    pub(super) topology: Arc<Topology>,
    pub(super) consumer: Arc<Consumer>,
    pub(super) queue: String,
    pub(super) prefetch: u16,
    pub(super) timeout: Duration,
}

impl Source {
    /// Waits until there is a point in taking messages, the broker and the consumer's database being there, and begins.
    pub(super) async fn open(&self) -> anyhow::Result<Session> {
        let connection = self.link.connection().await;
        let subscription = Subscription {
            consumer: self.consumer.name(),
            types: self.consumer.types(),
        };
        self.topology
            .declare_one(&connection, &subscription)
            .await?;
        let channel = bounded(self.timeout, connection.create_channel()).await??;
        let qos = channel.basic_qos(self.prefetch, BasicQosOptions::default());
        bounded(self.timeout, qos).await??;
        let deliveries = channel.basic_consume(
            name(&self.queue)?,
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = bounded(self.timeout, deliveries).await??;
        Ok(Session {
            channel,
            deliveries,
            timeout: self.timeout,
        })
    }

    /// Waits until the consumer's database answers, looking ever more rarely.
    pub(super) async fn database(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.consumer.is_ready().await {
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// An open channel with the messages that it brings.
pub(super) struct Session {
    channel: Channel,
    deliveries: lapin::Consumer,
    timeout: Duration,
}

impl Session {
    /// The next message. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> anyhow::Result<Delivery> {
        match self.deliveries.next().await {
            Some(delivery) => Ok(delivery?),
            None => anyhow::bail!("the queue is gone"),
        }
    }

    /// A message that is there already.
    pub(super) fn ready(&mut self) -> anyhow::Result<Option<Delivery>> {
        self.next().now_or_never().transpose()
    }

    /// Acknowledges one message, or all up to it.
    pub(super) async fn ack(&self, tag: u64, multiple: bool) -> anyhow::Result<()> {
        let ack = self.channel.basic_ack(tag, BasicAckOptions { multiple });
        Ok(bounded(self.timeout, ack).await??)
    }

    /// Gives back what was not worked on.
    pub(super) async fn close(self) {
        let closing = async {
            let tag = self.deliveries.tag();
            self.channel
                .basic_cancel(tag, BasicCancelOptions::default())
                .await?;
            self.channel.close(200, "done".into()).await
        };
        match bounded(CLOSING, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a channel did not close cleanly"),
            Err(error) => tracing::debug!(%error, "a channel did not close cleanly"),
        }
    }
}

/// Pauses between sessions that end ever again.
pub(super) struct Pace {
    pause: Duration,
    begun: tokio::time::Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            pause: FIRST_PAUSE,
            begun: tokio::time::Instant::now(),
        }
    }

    /// Rests after a session has ended, or until the token is cancelled.
    pub(super) async fn rest(
        &mut self,
        queue: &str,
        ended: anyhow::Result<()>,
        token: &CancellationToken,
    ) {
        if let Err(error) = ended {
            tracing::warn!(
                queue,
                error = format!("{error:#}"),
                "taking from the queue ended"
            );
        }
        if self.begun.elapsed() > LONGEST_PAUSE {
            self.pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(jittered(self.pause)) => {}
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.begun = tokio::time::Instant::now();
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.5))
}
