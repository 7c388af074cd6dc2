//! The time, as a port, so that tests can move it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// Tells the time and waits for it.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The current instant.
    fn now(&self) -> Timestamp;

    /// Returns once [`Clock::now`] is at or after `at`; at once when it is already.
    async fn sleep_until(&self, at: Timestamp);
}

/// A clock that is passed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The machine's clock, ready to be passed around.
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

/// The longest single nap: a machine that was suspended, or whose clock was set, is noticed after this.
const LONGEST_NAP: Duration = Duration::from_secs(30);

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            let left = at.duration_since(self.now());
            if left.is_zero() || left.is_negative() {
                return;
            }
            tokio::time::sleep(left.unsigned_abs().min(LONGEST_NAP)).await;
        }
    }
}
