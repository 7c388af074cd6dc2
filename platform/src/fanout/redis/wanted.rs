//! The topics that this process listens to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast, watch};

use crate::fanout::{BACKLOG, Signal};

/// What the listeners want.
#[derive(Default)]
pub(super) struct Wanted {
    state: Mutex<State>,
    /// That topics have changed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Topics with at least one listener.
    topics: HashMap<String, Topic>,
    /// Topics that came or went since the session looked last.
    changed: HashSet<String>,
    is_connected: bool,
    /// Whether the server ended a subscription that is wanted.
    was_taken: bool,
}

struct Topic {
    sender: broadcast::Sender<Signal>,
    /// Whether pokes arrive.
    live: watch::Sender<bool>,
    /// Whether a listener may have missed pokes while they did not.
    has_gap: bool,
}

/// Forgets the topic with its last listener.
pub(super) struct TopicGuard {
    topic: String,
    wanted: Arc<Wanted>,
}

impl TopicGuard {
    pub(super) fn new(topic: &str, wanted: &Arc<Wanted>) -> Self {
        Self {
            topic: topic.to_owned(),
            wanted: Arc::clone(wanted),
        }
    }
}

impl Drop for TopicGuard {
    fn drop(&mut self) {
        let mut state = self.wanted.lock();
        let topic = state.topics.get(&self.topic);
        if topic.is_some_and(|topic| topic.sender.receiver_count() == 0) {
            state.topics.remove(&self.topic);
            self.wanted
                .note_change(&mut state, std::mem::take(&mut self.topic));
        }
    }
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While nobody is connected changes are not gathered: whoever connects looks at all topics.
    fn note_change(&self, state: &mut State, topic: String) {
        if state.is_connected {
            state.changed.insert(topic);
            self.changed.notify_one();
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().is_connected
    }

    /// A new listener, and whether pokes arrive at it.
    pub(super) fn listen(
        &self,
        topic: &str,
    ) -> (broadcast::Receiver<Signal>, watch::Receiver<bool>) {
        let mut state = self.lock();
        if let Some(known) = state.topics.get(topic) {
            return (known.sender.subscribe(), known.live.subscribe());
        }
        let (sender, receiver) = broadcast::channel(BACKLOG);
        let (live, is_live) = watch::channel(false);
        let new = Topic {
            sender,
            live,
            has_gap: false,
        };
        state.topics.insert(topic.to_owned(), new);
        self.note_change(&mut state, topic.to_owned());
        (receiver, is_live)
    }

    /// From now on the listeners of `topic` may miss pokes, unless they arrive.
    pub(super) fn note_gap_unless_live(&self, topic: &str) {
        if let Some(topic) = self.lock().topics.get_mut(topic) {
            topic.has_gap |= !*topic.live.borrow();
        }
    }

    /// A connection stands and knows no topic yet.
    pub(super) fn connect(&self) {
        let mut state = self.lock();
        state.is_connected = true;
        state.was_taken = false;
        state.changed = state.topics.keys().cloned().collect();
        self.changed.notify_one();
    }

    /// The connection is lost.
    pub(super) fn disconnect(&self) {
        let mut state = self.lock();
        state.is_connected = false;
        state.changed = HashSet::new();
        for topic in state.topics.values_mut() {
            topic.has_gap |= topic.live.send_replace(false);
        }
    }

    /// Returns once topics have changed, or may have.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes up to `most` topics that have changed, and whether each is wanted now.
    pub(super) fn take_changes(&self, most: usize) -> Vec<(String, bool)> {
        let mut state = self.lock();
        let taken: Vec<_> = state.changed.iter().take(most).cloned().collect();
        let with_answer = taken.into_iter().map(|topic| {
            state.changed.remove(&topic);
            let is_wanted = state.topics.contains_key(&topic);
            (topic, is_wanted)
        });
        with_answer.collect()
    }

    /// Pokes of these topics arrive now.
    pub(super) fn are_live<'a>(&self, topics: impl Iterator<Item = &'a str>) {
        let mut state = self.lock();
        for topic in topics {
            let Some(topic) = state.topics.get_mut(topic) else {
                continue;
            };
            if !topic.live.send_replace(true) && std::mem::take(&mut topic.has_gap) {
                let _receivers = topic.sender.send(Signal::Gap).unwrap_or(0);
            }
        }
    }

    /// The server ended a subscription. Nobody asks it to while the topic is live, so then it did so by itself.
    pub(super) fn ended(&self, topic: &str) {
        let mut state = self.lock();
        if state
            .topics
            .get(topic)
            .is_some_and(|topic| *topic.live.borrow())
        {
            state.was_taken = true;
            self.changed.notify_one();
        }
    }

    /// Whether the server ended a subscription by itself.
    pub(super) fn was_taken(&self) -> bool {
        self.lock().was_taken
    }

    /// Hands a poke to the listeners of `topic`, if there are any.
    pub(super) fn poke(&self, topic: &str, payload: Bytes) {
        if let Some(topic) = self.lock().topics.get(topic) {
            let _receivers = topic.sender.send(Signal::Poke(payload)).unwrap_or(0);
        }
    }
}
