//! Says once that the store is away, and once that it is back, however many requests find out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use platform::{Error, SharedClock};

/// The store is back once it has not failed for this long. So one that comes and goes is told of now and then only.
const CALM: SignedDuration = SignedDuration::from_secs(5);

/// What the log was told.
pub(super) struct OutageLog {
    clock: SharedClock,
    /// Whether there is an outage; looked at by every request.
    is_away: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

/// An outage that the log was told of.
struct Outage {
    /// When the store failed last.
    failed: Timestamp,
    /// Requests that the store did not count.
    requests: u64,
}

impl OutageLog {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            is_away: AtomicBool::new(false),
            outage: Mutex::new(None),
        }
    }

    /// The store did not count a request.
    pub(super) fn failed(&self, error: &Error) {
        let failed = self.clock.now();
        let mut outage = self.outage();
        if let Some(outage) = &mut *outage {
            outage.failed = failed;
            outage.requests += 1;
            return;
        }
        *outage = Some(Outage {
            failed,
            requests: 1,
        });
        self.is_away.store(true, Ordering::Relaxed);
        tracing::warn!(
            %error,
            "the store of rate limits is away: signing in is counted here, reads pass, changes are refused"
        );
    }

    /// The store counted a request.
    pub(super) fn succeeded(&self) {
        if !self.is_away.load(Ordering::Relaxed) {
            return;
        }
        let mut outage = self.outage();
        let now = self.clock.now();
        if let Some(over) = outage.take_if(|outage| now.duration_since(outage.failed) >= CALM) {
            self.is_away.store(false, Ordering::Relaxed);
            tracing::info!(
                uncounted_requests = over.requests,
                "the store of rate limits is back"
            );
        }
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use platform::test_kit::ManualClock;

    use super::*;

    /// What the log believes: requests that were not counted in the outage of now.
    fn told(log: &OutageLog) -> Option<u64> {
        let told = log.outage().as_ref().map(|outage| outage.requests);
        assert_eq!(told.is_some(), log.is_away.load(Ordering::Relaxed));
        told
    }

    #[test]
    fn an_outage_ends_when_the_store_has_been_well_for_a_while() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let log = OutageLog::new(clock.clone());
        let error = Error::unavailable("redis_unavailable", "gone");
        log.succeeded();
        assert_eq!(told(&log), None);
        for count in 1..4 {
            log.failed(&error);
            // It comes and goes: one outage.
            clock.advance(CALM - SignedDuration::from_millis(1));
            log.succeeded();
            assert_eq!(told(&log), Some(count));
        }
        clock.advance(SignedDuration::from_millis(1));
        log.succeeded();
        assert_eq!(told(&log), None);
        log.failed(&error);
        assert_eq!(told(&log), Some(1));
    }
}
