//! Sessions whose access tokens count no more, although they have not expired.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio::time::Instant;
use uuid::Uuid;

/// Heartbeats come four times a second; after this silence nothing that moves money may go on.
pub const FRESH_FOR: Duration = Duration::from_secs(1);
/// After this silence reads stop too.
pub const STALE_FOR: Duration = Duration::from_secs(30);

/// Newly revoked sessions that a slow listener may lag behind before it must look itself.
const BACKLOG: usize = 4096;

/// How much the list of revoked sessions can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// Heard of within a second: everything may go on.
    Fresh,
    /// Not heard of for up to 30 s: only reads may go on.
    Stale,
    /// Not heard of for longer, or never: nobody can be let in.
    Lost,
}

/// The revoked sessions. Cheap to clone; all clones see the same.
#[derive(Debug, Clone)]
pub struct Revocations {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sessions: RwLock<HashMap<Uuid, Timestamp>>,
    heard: Mutex<Option<Instant>>,
    is_source: bool,
    news: broadcast::Sender<Uuid>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self::new()
    }
}

impl Revocations {
    /// An empty list that follows another and is [`Freshness::Lost`] until [`Revocations::heard`].
    pub fn new() -> Self {
        Self::with_source(false)
    }

    /// An empty list that is always [`Freshness::Fresh`], for tests that need no news.
    #[cfg(any(test, feature = "test-kit"))]
    pub fn source() -> Self {
        Self::with_source(true)
    }

    fn with_source(is_source: bool) -> Self {
        Self {
            inner: Arc::new(Inner {
                sessions: RwLock::default(),
                heard: Mutex::default(),
                is_source,
                news: broadcast::Sender::new(BACKLOG),
            }),
        }
    }

    /// Revokes a session. `until` is when its last access token expires. Doing it again is harmless.
    pub fn insert(&self, session: Uuid, until: Timestamp) {
        self.apply([(session, until)]);
    }

    /// Revokes several sessions, e.g. those of a snapshot. Sessions that are not among them stay revoked.
    pub fn apply(&self, sessions: impl IntoIterator<Item = (Uuid, Timestamp)>) {
        let mut new = Vec::new();
        {
            let mut known = self
                .inner
                .sessions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for (session, until) in sessions {
                match known.entry(session) {
                    Entry::Occupied(mut entry) => {
                        let later = until.max(*entry.get());
                        entry.insert(later);
                    }
                    Entry::Vacant(entry) => {
                        entry.insert(until);
                        new.push(session);
                    }
                }
            }
        }
        for session in new {
            // Nobody may be listening, which is fine.
            let _ = self.inner.news.send(session);
        }
    }

    /// Whether a session is revoked.
    pub fn is_revoked(&self, session: &Uuid) -> bool {
        let known = self
            .inner
            .sessions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        known.contains_key(session)
    }

    /// The revoked sessions and until when each is kept.
    pub fn snapshot(&self) -> Vec<(Uuid, Timestamp)> {
        let known = self
            .inner
            .sessions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|(session, until)| (*session, *until))
            .collect()
    }

    /// Forgets the sessions whose last access token has expired.
    pub fn expire(&self, now: Timestamp) {
        let mut known = self
            .inner
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, until| *until > now);
    }

    /// Notes that the source has just been heard of and that everything it said was applied.
    pub fn heard(&self) {
        let mut heard = self
            .inner
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *heard = Some(Instant::now());
    }

    /// How much the list can be relied on now.
    pub fn freshness(&self) -> Freshness {
        self.freshness_at(Instant::now())
    }

    fn freshness_at(&self, now: Instant) -> Freshness {
        if self.inner.is_source {
            return Freshness::Fresh;
        }
        let heard = *self
            .inner
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match heard.map(|at| now.saturating_duration_since(at)) {
            Some(silence) if silence < FRESH_FOR => Freshness::Fresh,
            Some(silence) if silence < STALE_FOR => Freshness::Stale,
            _ => Freshness::Lost,
        }
    }

    /// Newly revoked sessions from now on, for whoever holds a live connection. Subscribe first, then check
    /// [`Revocations::is_revoked`]; check again after `Lagged`.
    pub fn subscribe(&self) -> broadcast::Receiver<Uuid> {
        self.inner.news.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_snapshot_adds_and_removes_nothing() {
        let list = Revocations::new();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        list.insert(one, at(10));
        list.apply([(two, at(20))]);
        assert!(list.is_revoked(&one) && list.is_revoked(&two));
        assert!(list.clone().is_revoked(&one));
        assert!(!list.is_revoked(&Uuid::from_u128(3)));
    }

    #[test]
    fn entries_go_when_their_last_token_has_expired() {
        let list = Revocations::new();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        list.apply([(one, at(10)), (two, at(20))]);
        list.insert(one, at(30));
        list.insert(one, at(5));
        list.expire(at(20));
        assert!(list.is_revoked(&one), "the later time counts");
        assert!(!list.is_revoked(&two));
        assert_eq!(list.snapshot(), [(one, at(30))]);
    }

    #[test]
    fn silence_makes_it_stale_and_then_lost() {
        let list = Revocations::new();
        let start = Instant::now();
        assert_eq!(list.freshness(), Freshness::Lost);
        list.heard();
        assert_eq!(list.freshness_at(start), Freshness::Fresh);
        assert_eq!(
            list.freshness_at(start + Duration::from_secs(5)),
            Freshness::Stale
        );
        assert_eq!(
            list.freshness_at(start + Duration::from_secs(60)),
            Freshness::Lost
        );
        assert_eq!(Revocations::source().freshness(), Freshness::Fresh);
    }

    #[tokio::test]
    async fn listeners_hear_of_each_session_once() {
        let list = Revocations::new();
        let mut news = list.subscribe();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        list.insert(one, at(10));
        list.insert(one, at(11));
        list.insert(two, at(10));
        assert_eq!(news.recv().await.unwrap(), one);
        assert_eq!(news.recv().await.unwrap(), two);
        assert!(news.try_recv().is_err());
    }
}
