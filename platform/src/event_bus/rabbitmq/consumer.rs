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
use crate::time;

/// How long a message is kept here that could neither be parked nor put into a retry queue.
const STUCK: Duration = Duration::from_secs(1);

/// How long an event is put off that this version does not take, counted from when it happened. Longer than a release
/// takes.
const TO_COME: Duration = Duration::from_secs(24 * 3600);

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
    Later(PutOff),
    /// Again from here, soon.
    Stuck,
    /// Again from here after the pause, and nothing else before.
    Wait(Duration),
}

/// Where a message waits, and what it then carries. Until the broker has taken it there, nothing of this has happened.
struct PutOff {
    exchange: String,
    /// Deliveries that failed.
    deliveries: u32,
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
                Fate::Later(put_off) => later.push((message, put_off)),
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
                let fate = self.not_taken(&message).await;
                fates.push((message, fate));
            }
        }
        if known.is_empty() {
            return fates;
        }
        let events: Vec<Envelope> = known.iter().map(|message| message.event.clone()).collect();
        let verdicts = consumer.deliver(&events).await;
        for (message, verdict) in known.into_iter().zip(verdicts) {
            let fate = match verdict {
                Verdict::Done | Verdict::Refused | Verdict::Parked => Fate::Settled,
                Verdict::Retry(reason) => self.failed(&message, &reason).await,
                Verdict::Wait(pause) => Fate::Wait(pause),
            };
            fates.push((message, fate));
        }
        fates
    }

    async fn failed(&self, message: &Message, reason: &str) -> Fate {
        if !self.publisher.is_open() {
            // What it waits for may not get to the broker either. Its tries are for better times.
            return Fate::Stuck;
        }
        let deliveries = message.deliveries.saturating_add(1);
        if deliveries >= self.max_deliveries {
            return self.park(&message.event, reason).await;
        }
        Fate::Later(PutOff {
            exchange: self.topology.retry(deliveries),
            deliveries,
        })
    }

    /// Another version of this service asked for it: a newer one, which is about to come, or an older one.
    async fn not_taken(&self, message: &Message) -> Fate {
        let (consumer, event) = (&self.source.consumer, &message.event);
        let reason = format!("{} is not taken by this version", event.r#type);
        if self.topology.is_retired(consumer.name(), &event.r#type) {
            // An older version has bound it again.
            self.topology.mistrust();
        }
        let at = time::from_proto("time", &event.time).ok().flatten();
        // Without a time that makes sense it must not wait for ever.
        match at.map(|at| consumer.now().duration_since(at)) {
            Some(age) if age.unsigned_abs() <= TO_COME => Fate::Later(PutOff {
                exchange: self.topology.longest_retry(),
                deliveries: message.deliveries,
            }),
            Some(age) if age.is_positive() => {
                let reason = format!("{reason}, nor by any since it happened a day ago");
                self.park(event, &reason).await
            }
            _ => self.failed(message, &reason).await,
        }
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
    async fn put_off(
        &self,
        messages: Vec<(Message, PutOff)>,
    ) -> Vec<(Message, Result<(), String>)> {
        let (mut ready, mut outgoing, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        if !self.publisher.is_open() {
            // The others must not wait for it.
            let away = |(message, _)| (message, Err("the broker takes no messages".to_owned()));
            return messages.into_iter().map(away).collect();
        }
        for (message, put_off) in messages {
            match self.outgoing(&message, &put_off) {
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

    fn outgoing(&self, message: &Message, put_off: &PutOff) -> anyhow::Result<Outgoing> {
        Ok(Outgoing {
            exchange: name(&put_off.exchange)?,
            routing_key: name(&self.source.queue)?,
            mandatory: true,
            properties: message::properties(&message.event, put_off.deliveries)?,
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
