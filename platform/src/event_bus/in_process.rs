//! The bus of the embedded profile: queues in memory, with the promises of a broker.
//!
//! The publisher's outbox row is the durable copy. It is deleted only when every subscriber has committed the event or
//! parked it, so a crash between hand-over and commit brings the event again.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Envelope, EventBus, PublishError};
use crate::Error;
use crate::consumer::{Consumer, MAX_BATCH, Verdict};
use crate::shutdown::Tasks;

/// Events that wait for one subscriber before publishers wait too.
const QUEUE: usize = 4096;

/// How often a subscriber is given an event that it could not take.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Deliveries of one event before it is parked among the dead letters.
    pub max_deliveries: u32,
    /// Pause after the first delivery; doubles each time.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_deliveries: 12,
            first_pause: Duration::from_millis(25),
            longest_pause: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    fn pause(&self, deliveries: u32) -> Duration {
        let doublings = deliveries.saturating_sub(1).min(16);
        self.first_pause
            .saturating_mul(1 << doublings)
            .min(self.longest_pause)
    }
}

/// An event bus within the process.
#[derive(Default)]
pub struct InProcessBus {
    subscribers: RwLock<Vec<Subscriber>>,
    retry: RetryPolicy,
}

#[derive(Clone)]
struct Subscriber {
    name: &'static str,
    types: &'static [&'static str],
    queue: mpsc::Sender<Delivery>,
}

struct Delivery {
    event: Envelope,
    deliveries: u32,
    due: Instant,
    done: oneshot::Sender<()>,
}

impl InProcessBus {
    /// A bus without subscribers.
    pub fn new(retry: RetryPolicy) -> Self {
        Self {
            subscribers: RwLock::default(),
            retry,
        }
    }

    fn subscribers(&self) -> Vec<Subscriber> {
        self.subscribers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl EventBus for InProcessBus {
    async fn publish(&self, events: Vec<Envelope>) -> Vec<Result<(), PublishError>> {
        let subscribers = self.subscribers();
        let mut waiting = Vec::with_capacity(events.len());
        for event in events {
            let mut receipts = Vec::new();
            let takers = subscribers
                .iter()
                .filter(|s| s.types.contains(&event.r#type.as_str()));
            for subscriber in takers {
                let (done, receipt) = oneshot::channel();
                let delivery = Delivery {
                    event: event.clone(),
                    deliveries: 0,
                    due: Instant::now(),
                    done,
                };
                // A closed queue drops `done`, which the receipt shows.
                let _closed = subscriber.queue.send(delivery).await.is_err();
                receipts.push((subscriber.name, receipt));
            }
            waiting.push(receipts);
        }
        let mut outcomes = Vec::with_capacity(waiting.len());
        for receipts in waiting {
            let mut outcome = Ok(());
            for (name, receipt) in receipts {
                if receipt.await.is_err() {
                    outcome = Err(PublishError(format!("{name} has stopped")));
                }
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn subscribe(&self, consumer: Arc<Consumer>, tasks: &Tasks) -> Result<(), Error> {
        let (queue, deliveries) = mpsc::channel(QUEUE);
        self.subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Subscriber {
                name: consumer.name(),
                types: consumer.types(),
                queue,
            });
        let feeder = Feeder {
            consumer,
            retry: self.retry,
            delayed: Vec::new(),
            paused_until: None,
        };
        let token = tasks.token();
        tasks.spawn_critical(
            format!("{}-consumer", feeder.consumer.name()),
            feeder.run(deliveries, token),
        );
        Ok(())
    }
}

/// Feeds one consumer from its queue, and again what it could not take.
struct Feeder {
    consumer: Arc<Consumer>,
    retry: RetryPolicy,
    delayed: Vec<Delivery>,
    /// Until then the consumer's database is given time to come back.
    paused_until: Option<Instant>,
}

impl Feeder {
    async fn run(mut self, mut queue: mpsc::Receiver<Delivery>, token: CancellationToken) {
        loop {
            if let Some(paused_until) = self.paused_until.take() {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep_until(paused_until) => {}
                }
            }
            let mut batch = self.take_due();
            if batch.is_empty() {
                let next = self.delayed.iter().map(|delivery| delivery.due).min();
                tokio::select! {
                    () = token.cancelled() => return,
                    taken = queue.recv_many(&mut batch, MAX_BATCH) => {
                        if taken == 0 {
                            return;
                        }
                    }
                    () = sleep_until(next) => continue,
                }
            } else {
                while batch.len() < MAX_BATCH {
                    match queue.try_recv() {
                        Ok(delivery) => batch.push(delivery),
                        Err(_) => break,
                    }
                }
            }
            if token.is_cancelled() {
                return;
            }
            self.feed(batch).await;
        }
    }

    fn take_due(&mut self) -> Vec<Delivery> {
        let now = Instant::now();
        let (mut due, later): (Vec<_>, Vec<_>) = self
            .delayed
            .drain(..)
            .partition(|delivery| delivery.due <= now);
        self.delayed = later;
        if due.len() > MAX_BATCH {
            self.delayed.extend(due.drain(MAX_BATCH..));
        }
        due
    }

    async fn feed(&mut self, mut batch: Vec<Delivery>) {
        let events: Vec<Envelope> = batch
            .iter()
            .map(|delivery| delivery.event.clone())
            .collect();
        let verdicts = self.consumer.deliver(&events).await;
        for (mut delivery, verdict) in batch.drain(..).zip(verdicts) {
            let reason = match verdict {
                Verdict::Retry(reason) => reason,
                Verdict::Wait(pause) => {
                    // Not a delivery that counts: the event had no chance.
                    delivery.due = Instant::now() + pause;
                    self.paused_until = self.paused_until.max(Some(delivery.due));
                    self.delayed.push(delivery);
                    continue;
                }
                Verdict::Done | Verdict::Refused | Verdict::Parked => {
                    // The publisher may have gone; the inbox knows the event when it comes again.
                    let _gone = delivery.done.send(()).is_err();
                    continue;
                }
            };
            delivery.deliveries += 1;
            if delivery.deliveries >= self.retry.max_deliveries {
                match self.consumer.park(&delivery.event, &reason).await {
                    Ok(()) => {
                        let _gone = delivery.done.send(()).is_err();
                        continue;
                    }
                    Err(error) => tracing::error!(%error, "a dead letter could not be parked"),
                }
            }
            delivery.due = Instant::now() + self.retry.pause(delivery.deliveries);
            self.delayed.push(delivery);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
