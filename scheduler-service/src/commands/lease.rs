//! How long a claimed message belongs to the replica that claimed it.
//!
//! Two things must never happen at once: a replica hands a message to the provider, and another one hears from the
//! provider that it never had it. Four rules keep them apart:
//!
//! 1. A call begins only under a lease that covers all of it, and is given up with the lease at the latest: by the clock on
//!    the wall, and by that of the process, whichever ends first. The one stands still while a machine sleeps, the
//!    other can be set back. Both are looked at each time before the call goes on ([`Lease::carry`]), so that a process
//!    that wakes up after a sleep drops the call and does not finish it.
//! 2. A lease that was not written just now is renewed right before the call. The row's `due_at` is its epoch:
//!    the renewal changes only rows that still hold the value that this replica wrote, and whoever asks for a message
//!    changes it before asking. Of the two, the database lets one pass.
//! 3. Nobody asks before the lease has ended and `sending.grace_ms` more has passed. The grace covers what the clocks of two
//!    replicas differ by, and what a provider takes to notice that a call broke off.
//! 4. A message is claimed again only once the provider, asked after that, has said that it never had it.
//!
//! What remains: a replica that is suspended after the last look at the clock and before the system has taken its bytes,
//! bytes that wait in the system or in the network for longer than lease and grace, and clocks that differ by more than
//! the grace. Then a message may arrive at the provider twice. A provider that takes a reference once
//! (`Capabilities::dedupes_by_reference`) closes that as well: both submissions carry the message's id, so it is sent once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use jiff::Timestamp;
use platform::SharedClock;
use tokio::time::Instant;

use crate::config::SendingConfig;

/// A lease is relied on without a look into the database for this long.
const YOUNG: Duration = Duration::from_secs(1);

/// The time that a replica has for messages that it claimed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    /// When it was taken, by the wall.
    at: Timestamp,
    /// When it was taken, by the process.
    since: Instant,
    length: Duration,
    grace: Duration,
}

impl Lease {
    /// One that is taken now. To be made before it is written, so that it ends no later than the row tells.
    pub(crate) fn begin(clock: &SharedClock, sending: &SendingConfig) -> Self {
        let since = Instant::now();
        Self {
            at: clock.now(),
            since,
            length: sending.lease(),
            grace: sending.grace(),
        }
    }

    /// When it was taken.
    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    /// From when on others may ask the provider what became of the messages: what stands in their rows.
    pub(crate) fn asked_from(&self) -> Timestamp {
        self.at + self.length + self.grace
    }

    /// Whether it was taken so recently that nobody else can have come in between.
    pub(crate) fn is_young(&self, now: Timestamp) -> bool {
        self.age(now) < YOUNG
    }

    /// Makes a call of at most `timeout` under the lease. `None` when it was given up, or not begun because the lease is
    /// too short for it.
    pub(crate) async fn carry<T>(
        &self,
        clock: &SharedClock,
        timeout: Duration,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let (begun, begun_at) = (Instant::now(), clock.now());
        if self.age(begun_at) + timeout > self.length {
            return None;
        }
        let is_over = || {
            let waited = begun.elapsed().max(past(begun_at, clock.now()));
            waited >= timeout || self.age(clock.now()) >= self.length
        };
        let mut call = pin!(call);
        let mut bell = pin!(async {
            tokio::select! {
                () = tokio::time::sleep(timeout) => {}
                () = clock.sleep_until(begun_at + timeout) => {}
            }
        });
        poll_fn(|context| {
            // First the clocks, then the call: it must not go on in the moment in which the process wakes up.
            if is_over() || bell.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            call.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// How old it is, by the clock that has come further.
    fn age(&self, now: Timestamp) -> Duration {
        self.since.elapsed().max(past(self.at, now))
    }
}

/// Time from `from` to `to`; nothing when the clock was set back.
fn past(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use jiff::SignedDuration;
    use platform::test_kit::ManualClock;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn lease() -> (Arc<ManualClock>, SharedClock, Lease) {
        let manual = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let clock: SharedClock = manual.clone();
        let sending = SendingConfig {
            lease_ms: 20_000,
            grace_ms: 5_000,
            ..SendingConfig::default()
        };
        let lease = Lease::begin(&clock, &sending);
        (manual, clock, lease)
    }

    #[tokio::test]
    async fn a_call_begins_only_under_a_lease_that_covers_it() {
        let (manual, clock, lease) = lease();
        assert_eq!(lease.asked_from(), Timestamp::from_second(25).unwrap());
        assert!(lease.is_young(clock.now()));
        assert_eq!(lease.carry(&clock, TIMEOUT, async { 1 }).await, Some(1));
        manual.advance(SignedDuration::from_secs(9));
        assert!(!lease.is_young(clock.now()));
        assert_eq!(lease.carry(&clock, TIMEOUT, async { 2 }).await, Some(2));
        manual.advance(SignedDuration::from_secs(2));
        assert_eq!(lease.carry(&clock, TIMEOUT, async { 3 }).await, None);
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_makes_no_lease_longer() {
        let (manual, clock, mut lease) = lease();
        lease.since -= Duration::from_secs(11);
        manual.advance(SignedDuration::from_hours(-1));
        assert!(!lease.is_young(clock.now()));
        assert_eq!(lease.carry(&clock, TIMEOUT, async {}).await, None);
    }

    #[tokio::test]
    async fn who_wakes_up_too_late_does_not_go_on() {
        let (manual, clock, lease) = lease();
        let went_on = AtomicBool::new(false);
        let call = async {
            // The machine sleeps while the call waits, and the call could go on at once afterwards.
            manual.advance(SignedDuration::from_secs(60));
            tokio::task::yield_now().await;
            went_on.store(true, Ordering::SeqCst);
        };
        assert_eq!(lease.carry(&clock, TIMEOUT, call).await, None);
        assert!(!went_on.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_call_that_stands_still_is_given_up_by_either_clock() {
        let (manual, clock, lease) = lease();
        let stands = std::future::pending::<()>();
        let short = Duration::from_millis(20);
        assert_eq!(lease.carry(&clock, short, stands).await, None);
        let stands = std::future::pending::<()>();
        let (given_up, ()) = tokio::join!(lease.carry(&clock, TIMEOUT, stands), async {
            manual.advance(SignedDuration::from_secs(10));
        });
        assert_eq!(given_up, None);
    }
}
