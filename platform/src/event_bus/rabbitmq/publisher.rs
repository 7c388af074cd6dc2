//! Publishing with confirms.
//!
//! Calls run side by side, each on a channel of its own: a channel that fails takes nobody else's messages with it, and
//! a message that the broker returns is one of this call's.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, PublisherConfirm};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::connection::{Link, is_missing};
use super::topology::Topology;
use crate::event_bus::PublishError;

/// Calls that publish at the same time.
const CHANNELS: usize = 16;

/// A message on its way to the broker.
pub(super) struct Outgoing {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    /// Whether it counts as not published when no queue takes it.
    pub(super) mandatory: bool,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// Publishes on one connection.
pub(super) struct Publisher {
    pub(super) link: Link,
    topology: Arc<Topology>,
    timeout: Duration,
    slots: Semaphore,
    idle: Mutex<Vec<Channel>>,
    #[cfg(feature = "test-kit")]
    pub(super) faults: super::test_hooks::Faults,
}

impl Publisher {
    pub(super) fn new(link: Link, topology: Arc<Topology>, timeout: Duration) -> Self {
        Self {
            link,
            topology,
            timeout,
            slots: Semaphore::new(CHANNELS),
            idle: Mutex::default(),
            #[cfg(feature = "test-kit")]
            faults: super::test_hooks::Faults::default(),
        }
    }

    /// Whether the broker is there and takes messages.
    pub(super) fn is_open(&self) -> bool {
        #[cfg(feature = "test-kit")]
        if self.faults.blocked() {
            return false;
        }
        self.link
            .current()
            .is_some_and(|connection| !connection.status().blocked())
    }

    /// Publishes the messages and waits for the confirms. `Ok` means that the broker has the message on disk.
    pub(super) async fn send(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        if messages.is_empty() {
            return Vec::new();
        }
        #[cfg(feature = "test-kit")]
        if self.faults.any() {
            return vec![Err(PublishError("a test wants it so".to_owned())); messages.len()];
        }
        let deadline = Instant::now() + self.timeout;
        let _user = self.link.enter();
        let opened = timeout_at(deadline, async {
            // Never closed.
            let slot = self.slots.acquire().await.ok();
            self.channel().await.map(|channel| (slot, channel))
        });
        let failed = |reason: &str| vec![Err(PublishError(reason.to_owned())); messages.len()];
        let (_slot, channel) = match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return failed(&format!("{error:#}")),
            Err(_late) => return failed("the broker is away"),
        };
        let sending = join_all(messages.iter().map(|message| publish(&channel, message)));
        let Ok(confirms) = timeout_at(deadline, sending).await else {
            return failed("the broker takes no messages");
        };
        let (outcomes, sound) = self.confirmed(messages, confirms, deadline).await;
        if sound {
            self.idle().push(channel);
        }
        outcomes
    }

    async fn confirmed(
        &self,
        messages: &[Outgoing],
        confirms: Vec<lapin::Result<PublisherConfirm>>,
        deadline: Instant,
    ) -> (Vec<Result<(), PublishError>>, bool) {
        let mut outcomes = Vec::with_capacity(messages.len());
        let (mut returned, mut sound) = (HashSet::new(), true);
        for confirm in confirms {
            let answer = match confirm {
                Ok(confirm) => timeout_at(deadline, confirm).await,
                Err(error) => Ok(Err(error)),
            };
            outcomes.push(match answer {
                Ok(Ok(confirmation)) => {
                    let taken = confirmation.is_ack();
                    // It may come with the confirm of another message of this channel.
                    if let Some(message) = confirmation.take_message() {
                        returned.insert(message.properties.message_id().clone());
                    }
                    match taken {
                        true => Ok(()),
                        false => Err(PublishError("the broker refused it".to_owned())),
                    }
                }
                Ok(Err(error)) => {
                    sound = false;
                    if is_missing(&error) {
                        self.topology.mistrust();
                    }
                    Err(PublishError(error.to_string()))
                }
                Err(_late) => {
                    sound = false;
                    Err(PublishError("no confirm in time".to_owned()))
                }
            });
        }
        if !returned.is_empty() {
            tracing::warn!("a queue is missing at the broker and is declared again");
            self.topology.mistrust();
            for (message, outcome) in messages.iter().zip(&mut outcomes) {
                if returned.contains(message.properties.message_id()) {
                    *outcome = Err(PublishError("no queue took it".to_owned()));
                }
            }
        }
        (outcomes, sound)
    }

    /// A channel that nobody else uses, on a broker that has all queues.
    async fn channel(&self) -> anyhow::Result<Channel> {
        let connection = self.link.connection().await;
        self.topology.ensure(&connection).await?;
        loop {
            let Some(channel) = self.idle().pop() else {
                break;
            };
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn publish(channel: &Channel, message: &Outgoing) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        ..BasicPublishOptions::default()
    };
    channel
        .basic_publish(
            message.exchange.clone(),
            message.routing_key.clone(),
            options,
            &message.body,
            message.properties.clone(),
        )
        .await
}
