//! Fan-out: a poke to every process that holds a live connection about a topic.
//!
//! Pokes may be lost and say nothing that is not in a database: who is poked reads there what is new.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

use crate::Error;

/// Pokes that wait for one receiver before the oldest are dropped.
const BACKLOG: usize = 64;

/// Pokes the holders of live connections.
#[async_trait]
pub trait Fanout: Send + Sync {
    /// Pokes everyone who listens to `topic` now.
    ///
    /// # Errors
    /// When the carrier is away.
    async fn publish(&self, topic: &str, payload: Bytes) -> Result<(), Error>;

    /// Listens to `topic`. Pokes published after this returned arrive.
    ///
    /// # Errors
    /// When the carrier is away.
    async fn subscribe(&self, topic: &str) -> Result<FanoutReceiver, Error>;
}

/// Some pokes were dropped: read the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pokes were dropped")]
pub struct Lagged;

/// Receives the pokes of one topic.
pub struct FanoutReceiver {
    receiver: broadcast::Receiver<Bytes>,
    /// Removes the topic when its last receiver goes.
    _guard: TopicGuard,
}

impl FanoutReceiver {
    /// The next poke.
    ///
    /// # Errors
    /// [`Lagged`] when some were dropped since the last call, or the carrier has gone.
    pub async fn recv(&mut self) -> Result<Bytes, Lagged> {
        self.receiver.recv().await.map_err(|_| Lagged)
    }
}

type Topics = Arc<Mutex<HashMap<String, broadcast::Sender<Bytes>>>>;

/// Fan-out within the process.
#[derive(Default)]
pub struct MemoryFanout {
    topics: Topics,
}

struct TopicGuard {
    topic: String,
    topics: Topics,
}

impl Drop for TopicGuard {
    fn drop(&mut self) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        // The receiver beside this guard is gone already: fields drop in the order in which they stand.
        if topics
            .get(&self.topic)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            topics.remove(&self.topic);
        }
    }
}

#[async_trait]
impl Fanout for MemoryFanout {
    async fn publish(&self, topic: &str, payload: Bytes) -> Result<(), Error> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = topics.get(topic) {
            // Nobody listening is no error.
            let _receivers = sender.send(payload).unwrap_or(0);
        }
        Ok(())
    }

    async fn subscribe(&self, topic: &str) -> Result<FanoutReceiver, Error> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = topics
            .entry(topic.to_owned())
            .or_insert_with(|| broadcast::channel(BACKLOG).0)
            .subscribe();
        let guard = TopicGuard {
            topic: topic.to_owned(),
            topics: self.topics.clone(),
        };
        Ok(FanoutReceiver {
            receiver,
            _guard: guard,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_listener_of_the_topic_is_poked_and_no_other() {
        let fanout = MemoryFanout::default();
        let mut one = fanout.subscribe("a").await.unwrap();
        let mut two = fanout.subscribe("a").await.unwrap();
        let mut other = fanout.subscribe("b").await.unwrap();
        fanout.publish("a", Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(one.recv().await.unwrap(), "1");
        assert_eq!(two.recv().await.unwrap(), "1");
        fanout.publish("b", Bytes::from_static(b"2")).await.unwrap();
        assert_eq!(other.recv().await.unwrap(), "2");
    }

    #[tokio::test]
    async fn who_falls_behind_is_told() {
        let fanout = MemoryFanout::default();
        let mut slow = fanout.subscribe("a").await.unwrap();
        for _ in 0..=BACKLOG {
            fanout.publish("a", Bytes::new()).await.unwrap();
        }
        assert_eq!(slow.recv().await, Err(Lagged));
    }

    #[tokio::test]
    async fn a_topic_without_listeners_takes_no_room() {
        let fanout = MemoryFanout::default();
        let one = fanout.subscribe("a").await.unwrap();
        let two = fanout.subscribe("a").await.unwrap();
        drop(one);
        assert_eq!(fanout.topics.lock().unwrap().len(), 1);
        drop(two);
        assert!(fanout.topics.lock().unwrap().is_empty());
    }
}
