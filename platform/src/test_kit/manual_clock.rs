//! A clock that stands until the test moves it.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::clock::Clock;

/// A clock that stands until [`ManualClock::advance`]; those who sleep until then wake up.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
}

impl ManualClock {
    /// Stands at `at`.
    pub fn new(at: Timestamp) -> Self {
        Self {
            now: watch::Sender::new(at),
        }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: SignedDuration) {
        self.now.send_modify(|now| *now += by);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut now = self.now.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        let _arrived = now.wait_for(|now| *now >= at).await.is_ok();
    }
}
