//! How many sockets each user holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Counts sockets by user. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sockets {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    most: u32,
    counts: Mutex<HashMap<Uuid, u32>>,
}

/// One user's place for one socket; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    sockets: Sockets,
    user: Uuid,
}

impl Sockets {
    /// Up to `most` sockets for each user.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            inner: Arc::new(Inner {
                most,
                counts: Mutex::default(),
            }),
        }
    }

    /// A place for one more socket of a user, if there is one.
    pub(crate) fn enter(&self, user: Uuid) -> Option<Seat> {
        let mut counts = self.counts();
        let count = counts.entry(user).or_default();
        if *count >= self.inner.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Seat {
            sockets: self.clone(),
            user,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Uuid, u32>> {
        self.inner
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.sockets.counts();
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let sockets = Sockets::new(2);
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = sockets.enter(one).unwrap();
        let _second = sockets.enter(one).unwrap();
        assert!(sockets.enter(one).is_none());
        assert!(sockets.enter(two).is_some());
        drop(first);
        assert!(sockets.enter(one).is_some());
        assert_eq!(sockets.counts().len(), 1);
    }
}
