//! Brings events from a queue into their consumer.
//!
//! A message is acknowledged once it is dealt with: committed, among the dead letters, or confirmed in a retry queue.
//! Until then the broker has it, and brings it again when this process dies.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::name;
use super::held::{Held, Message};
use super::message;
use super::publisher::{Outgoing, Publisher};
use super::session::{Pace, Session, Source};
use super::topology::Topology;
use crate::consumer::{Consumer, Verdict};
use crate::event_bus::Envelope;

/// How long a message is kept here that could neither be parked nor put into a retry queue.
const STUCK: Duration = Duration::from_secs(1);

/// How often a dead letter is tried to park before the session begins anew.
const PARK_TRIES: u32 = 60;

/// Feeds one consumer from its queue.
pub(super) struct Feeder {
    pub(super) source: Source,
    pub(super) publisher: Arc<Publisher>,
    pub(super) topology: Arc<Topology>,
    pub(super) max_deliveries: u32,
}

/// What is to become of a message.
enum Fate {
    /// It is dealt with and can be acknowledged.
    Settled,
    /// To a retry queue.
    Later,
    /// Again from here, soon.
    Stuck,
    /// Again from here after the pause, and nothing else before.
    Wait(Duration),
}

impl Feeder {
    pub(super) async fn run(self, token: CancellationToken) {
        let _lines = (self.source.link.enter(), self.publisher.link.enter());
        let mut pace = Pace::new();
        while !token.is_cancelled() {
            let ended = self.session(&token).await;
            pace.rest(&self.source.queue, ended, &token).await;
        }
    }

    async fn session(&self, token: &CancellationToken) -> anyhow::Result<()> {
        let opening = async {
            self.source.database().await;
            self.source.open().await
        };
        let mut session = tokio::select! {
            () = token.cancelled() => return Ok(()),
            session = opening => session?,
        };
        let mut held = Held::default();
        loop {
            let batch = tokio::select! {
                () = token.cancelled() => break,
                batch = held.next_batch(&mut session) => batch?,
            };
            // Once begun, a batch is brought to its end.
            self.work(batch, &mut held, &session).await?;
        }
        session.close().await;
        Ok(())
    }

    async fn work(
        &self,
        batch: Vec<Message>,
        held: &mut Held,
        session: &Session,
    ) -> anyhow::Result<()> {
        let (mut settled, mut later) = (Vec::new(), Vec::new());
        for (message, fate) in self.deliver(batch).await {
            match fate {
                Fate::Settled => settled.push(message.tag),
                Fate::Later => later.push(message),
                Fate::Stuck => held.keep(message, Instant::now() + STUCK),
                Fate::Wait(pause) => {
                    let due = Instant::now() + pause;
                    held.keep(message, due);
                    held.pause_until(due);
                }
            }
        }
        for (message, outcome) in self.put_off(later).await {
            match outcome {
                Ok(()) => settled.push(message.tag),
                Err(error) => {
                    tracing::warn!(event.id = %message.event.id, %error, "an event could not be put off");
                    held.keep(message, Instant::now() + STUCK);
                }
            }
        }
        match settled.iter().max() {
            // Everything before it was acknowledged, or is among these.
            Some(last) if held.is_empty() => session.ack(*last, true).await,
            _ => {
                let acks = settled.iter().map(|tag| session.ack(*tag, false));
                try_join_all(acks).await.map(|_| ())
            }
        }
    }

    /// Delivers what can be read; says what is to become of each message.
    async fn deliver(&self, batch: Vec<Message>) -> Vec<(Message, Fate)> {
        let consumer = &self.source.consumer;
        let (mut known, mut fates) = (Vec::with_capacity(batch.len()), Vec::new());
        for message in batch {
            if let Some(reason) = &message.unreadable {
                let fate = self.park(&message.event, reason).await;
                fates.push((message, fate));
            } else if consumer.types().contains(&message.event.r#type.as_str()) {
                known.push(message);
            } else {
                // A newer version of this service asked for it, and is about to come.
                let reason = format!("{} is not taken by this version", message.event.r#type);
                fates.push(self.failed(message, &reason).await);
            }
        }
        if known.is_empty() {
            return fates;
        }
        let events: Vec<Envelope> = known.iter().map(|message| message.event.clone()).collect();
        let verdicts = consumer.deliver(&events).await;
        for (message, verdict) in known.into_iter().zip(verdicts) {
            fates.push(match verdict {
                Verdict::Done | Verdict::Refused | Verdict::Parked => (message, Fate::Settled),
                Verdict::Retry(reason) => self.failed(message, &reason).await,
                Verdict::Wait(pause) => (message, Fate::Wait(pause)),
            });
        }
        fates
    }

    async fn failed(&self, mut message: Message, reason: &str) -> (Message, Fate) {
        message.deliveries = message.deliveries.saturating_add(1);
        let fate = if message.deliveries >= self.max_deliveries {
            self.park(&message.event, reason).await
        } else {
            Fate::Later
        };
        (message, fate)
    }

    async fn park(&self, event: &Envelope, reason: &str) -> Fate {
        match self.source.consumer.park(event, reason).await {
            Ok(()) => Fate::Settled,
            Err(error) => {
                tracing::error!(%error, "a dead letter could not be parked");
                Fate::Stuck
            }
        }
    }

    /// Puts the messages into the retry queues.
    async fn put_off(&self, messages: Vec<Message>) -> Vec<(Message, Result<(), String>)> {
        let (mut ready, mut outgoing, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        if !self.publisher.is_open() {
            // The others must not wait for it.
            let away = |message| (message, Err("the broker takes no messages".to_owned()));
            return messages.into_iter().map(away).collect();
        }
        for message in messages {
            match self.outgoing(&message) {
                Ok(out) => {
                    outgoing.push(out);
                    ready.push(message);
                }
                Err(error) => outcomes.push((message, Err(error.to_string()))),
            }
        }
        let sent = self.publisher.send(&outgoing).await;
        let sent = sent
            .into_iter()
            .map(|outcome| outcome.map_err(|error| error.to_string()));
        outcomes.extend(ready.into_iter().zip(sent));
        outcomes
    }

    fn outgoing(&self, message: &Message) -> anyhow::Result<Outgoing> {
        Ok(Outgoing {
            exchange: name(&self.topology.retry(message.deliveries))?,
            routing_key: name(&self.source.queue)?,
            mandatory: true,
            properties: message::properties(&message.event, message.deliveries)?,
            body: message.event.data.clone(),
        })
    }
}

/// Turns what the broker gave up on into rows of the consumer.
pub(super) struct DeadLetters {
    pub(super) source: Source,
}

impl DeadLetters {
    pub(super) async fn run(self, token: CancellationToken) {
        let _line = self.source.link.enter();
        let mut pace = Pace::new();
        while !token.is_cancelled() {
            let ended = self.session(&token).await;
            pace.rest(&self.source.queue, ended, &token).await;
        }
    }

    async fn session(&self, token: &CancellationToken) -> anyhow::Result<()> {
        let opening = async {
            self.source.database().await;
            self.source.open().await
        };
        let mut session = tokio::select! {
            () = token.cancelled() => return Ok(()),
            session = opening => session?,
        };
        loop {
            let delivery = tokio::select! {
                () = token.cancelled() => break,
                delivery = session.next() => delivery?,
            };
            let (event, unreadable) = message::read(&delivery);
            let reason = unreadable.unwrap_or_else(|| message::why_dead(&delivery));
            let parked = tokio::select! {
                () = token.cancelled() => break,
                parked = park(&self.source.consumer, &event, &reason) => parked,
            };
            if let Err(error) = parked {
                session.close().await;
                return Err(error.into());
            }
            session.ack(delivery.delivery_tag, false).await?;
        }
        session.close().await;
        Ok(())
    }
}

/// Parks an event, and tries for a while when the database does not answer.
async fn park(consumer: &Consumer, event: &Envelope, reason: &str) -> Result<(), crate::Error> {
    let mut tries = 0;
    loop {
        match consumer.park(event, reason).await {
            Err(error) if tries < PARK_TRIES => {
                tries += 1;
                tracing::warn!(%error, "a dead letter could not be parked");
                tokio::time::sleep(STUCK).await;
            }
            outcome => return outcome,
        }
    }
}
