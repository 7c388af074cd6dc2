//! Whether this process can take work, as its parts tell it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// State of the parts of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    parts: Mutex<BTreeMap<String, Part>>,
    draining: CancellationToken,
}

/// State of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Whether it works.
    pub up: bool,
    /// Whether the process is of no use without it.
    pub critical: bool,
}

impl Health {
    /// Tells the state of a part without which the process is not ready.
    pub fn tell(&self, part: &str, up: bool) {
        self.put(part, Part { up, critical: true });
    }

    /// Tells the state of a part that may be away for a while.
    pub fn tell_in_passing(&self, part: &str, up: bool) {
        let critical = false;
        self.put(part, Part { up, critical });
    }

    fn put(&self, name: &str, part: Part) {
        let mut parts = self
            .inner
            .parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = parts.insert(name.to_owned(), part);
        if before.is_some_and(|before| before.up != part.up) {
            tracing::warn!(part = name, up = part.up, "health changed");
        }
    }

    /// Every part that has told its state.
    pub fn parts(&self) -> BTreeMap<String, Part> {
        self.inner
            .parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether work may be sent here: something has started, nothing critical is down, and no end is near.
    pub fn is_ready(&self) -> bool {
        let parts = self.parts();
        let mut critical = parts.values().filter(|part| part.critical).peekable();
        !self.is_draining() && critical.peek().is_some() && critical.all(|part| part.up)
    }

    /// From now on no new work should be sent here, though what comes is still done.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }

    /// Whether the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.is_cancelled()
    }

    /// Waits until the process is about to end.
    pub async fn drained(&self) {
        self.inner.draining.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_from_its_start_to_its_draining() {
        let health = Health::default();
        assert!(!health.is_ready());
        health.tell("database", true);
        health.tell_in_passing("broker", false);
        assert!(health.is_ready());
        health.tell("database", false);
        assert!(!health.is_ready());
        health.tell("database", true);
        health.drain();
        assert!(!health.is_ready());
    }
}
