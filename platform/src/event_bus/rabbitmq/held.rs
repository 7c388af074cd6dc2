//! Messages that were taken and not yet acknowledged, and which of them come next.

use lapin::message::Delivery;
use tokio::time::Instant;

use super::message;
use super::session::Session;
use crate::consumer::MAX_BATCH;
use crate::event_bus::Envelope;

/// A message that was handed over so often without being acknowledged may be what kills its consumer.
const SUSPICIOUS: u32 = 3;

/// One message.
pub(super) struct Message {
    pub(super) tag: u64,
    pub(super) event: Envelope,
    /// Why it cannot be read; `event` holds what there is.
    pub(super) unreadable: Option<String>,
    /// Deliveries that failed.
    pub(super) deliveries: u32,
}

impl Message {
    fn new(delivery: &Delivery) -> Self {
        let (event, unreadable) = message::read(delivery);
        Self {
            tag: delivery.delivery_tag,
            event,
            unreadable,
            deliveries: message::deliveries(delivery),
        }
    }
}

/// What a session keeps.
#[derive(Default)]
pub(super) struct Held {
    /// To be delivered again from here, each at its time.
    waiting: Vec<(Message, Instant)>,
    /// Nothing is taken before, because what all need is away.
    paused_until: Option<Instant>,
    /// Those that came back too often. They are delivered alone and in any order, so that the neighbours of one that
    /// kills the process get through before the broker gives up on them.
    suspects: Vec<Message>,
    /// Whether a suspect is next, so that neither they nor the others wait forever.
    suspect_next: bool,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.suspects.is_empty()
    }

    /// Keeps a message for another delivery from here.
    pub(super) fn keep(&mut self, message: Message, due: Instant) {
        self.waiting.push((message, due));
    }

    /// Takes nothing more before then.
    pub(super) fn pause_until(&mut self, at: Instant) {
        self.paused_until = self.paused_until.max(Some(at));
    }

    /// The messages to work on next; at least one. May be dropped while it waits.
    pub(super) async fn next_batch(
        &mut self,
        session: &mut Session,
    ) -> anyhow::Result<Vec<Message>> {
        if let Some(at) = self.paused_until {
            tokio::time::sleep_until(at).await;
            self.paused_until = None;
        }
        loop {
            if std::mem::take(&mut self.suspect_next)
                && let Some(suspect) = self.a_suspect()
            {
                return Ok(vec![suspect]);
            }
            let mut batch = self.take_due();
            while batch.len() < MAX_BATCH
                && let Some(delivery) = session.ready()?
            {
                self.sort(&delivery, &mut batch);
            }
            self.suspect_next = true;
            if !batch.is_empty() {
                return Ok(batch);
            }
            if !self.suspects.is_empty() {
                continue;
            }
            let next = self.waiting.iter().map(|(_, due)| *due).min();
            tokio::select! {
                delivery = session.next() => self.sort(&delivery?, &mut batch),
                () = sleep_until(next) => {}
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    fn take_due(&mut self) -> Vec<Message> {
        let now = Instant::now();
        let (mut due, mut later): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|(_, due)| *due <= now);
        later.extend(due.drain(due.len().min(MAX_BATCH)..));
        self.waiting = later;
        due.into_iter().map(|(message, _)| message).collect()
    }

    fn sort(&mut self, delivery: &Delivery, batch: &mut Vec<Message>) {
        let message = Message::new(delivery);
        if message::handed_over(delivery) >= SUSPICIOUS {
            self.suspects.push(message);
        } else {
            batch.push(message);
        }
    }

    fn a_suspect(&mut self) -> Option<Message> {
        if self.suspects.is_empty() {
            return None;
        }
        let place = rand::random_range(0..self.suspects.len());
        Some(self.suspects.swap_remove(place))
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
