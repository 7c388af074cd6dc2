//! Fan-out within the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

use super::{BACKLOG, Fanout, FanoutReceiver, Signal};
use crate::Error;

type Topics = Arc<Mutex<HashMap<String, broadcast::Sender<Signal>>>>;

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
            let _receivers = sender.send(Signal::Poke(payload)).unwrap_or(0);
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
            _guard: Box::new(guard),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
