//! Fan-out: a poke to every process that holds a live connection about a topic.
//!
//! Pokes may be lost and say nothing that is not in a database: who is poked reads there what is new.

mod memory;
mod redis;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

use crate::Error;

pub use self::memory::MemoryFanout;
pub use self::redis::RedisFanout;

/// Pokes that wait for one receiver before the oldest are dropped. Room for them is taken for each topic at once.
const BACKLOG: usize = 16;

/// Pokes the holders of live connections.
#[async_trait]
pub trait Fanout: Send + Sync {
    /// Pokes everyone who listens to `topic` now.
    ///
    /// # Errors
    /// When the carrier is away; told without waiting for it.
    async fn publish(&self, topic: &str, payload: Bytes) -> Result<(), Error>;

    /// Listens to `topic`. Pokes published after this returned arrive; while the carrier is away they are lost, and once
    /// it is back the receiver is told by [`Lagged`].
    ///
    /// # Errors
    /// When the topic cannot be listened to at all. That the carrier is away is no reason.
    async fn subscribe(&self, topic: &str) -> Result<FanoutReceiver, Error>;
}

/// Some pokes were dropped, or may have been: read the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pokes were dropped")]
pub struct Lagged;

/// What a receiver gets.
#[derive(Debug, Clone)]
enum Signal {
    Poke(Bytes),
    /// Pokes may have been lost here.
    Gap,
}

/// Receives the pokes of one topic.
pub struct FanoutReceiver {
    receiver: broadcast::Receiver<Signal>,
    /// Removes the topic when its last receiver goes. Dropped after the receiver: fields drop in the order in which they
    /// stand.
    _guard: Box<dyn Send + Sync>,
}

impl FanoutReceiver {
    /// The next poke.
    ///
    /// # Errors
    /// [`Lagged`] when some were dropped since the last call, or may have been while the carrier was away, or the carrier
    /// has gone.
    pub async fn recv(&mut self) -> Result<Bytes, Lagged> {
        match self.receiver.recv().await {
            Ok(Signal::Poke(payload)) => Ok(payload),
            Ok(Signal::Gap) | Err(_) => Err(Lagged),
        }
    }
}
