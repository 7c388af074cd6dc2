use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use platform::clock::{Clock, SystemClock};

/// The machine's clock, which a test can set forward.
#[derive(Default)]
pub(crate) struct ForwardClock {
    ahead: Mutex<SignedDuration>,
}

impl ForwardClock {
    pub(crate) fn advance(&self, by: Duration) {
        let by = SignedDuration::try_from(by).expect("a sane duration");
        *self.ahead.lock().expect("not poisoned") += by;
    }

    fn ahead(&self) -> SignedDuration {
        *self.ahead.lock().expect("not poisoned")
    }
}

#[async_trait]
impl Clock for ForwardClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.ahead()
    }

    async fn sleep_until(&self, at: Timestamp) {
        // Short naps, so that a jump of the clock is noticed soon.
        while self.now() < at {
            let left = at.duration_since(self.now()).unsigned_abs();
            tokio::time::sleep(left.min(Duration::from_millis(100))).await;
        }
    }
}
