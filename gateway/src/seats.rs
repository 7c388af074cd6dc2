//! How many of something each of many holds: sockets and uploads of a user, connections of an address.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts by holder. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Seats<K> {
    inner: Arc<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    most: u32,
    counts: Mutex<HashMap<K, u32>>,
}

/// One place of a holder; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat<K: Eq + Hash> {
    inner: Arc<Inner<K>>,
    holder: K,
}

impl<K> Clone for Seats<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K: Clone + Eq + Hash> Seats<K> {
    /// Up to `most` places for each holder.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            inner: Arc::new(Inner {
                most,
                counts: Mutex::default(),
            }),
        }
    }

    /// One more place for a holder, if there is one.
    pub(crate) fn enter(&self, holder: K) -> Option<Seat<K>> {
        let mut counts = self.inner.counts();
        match counts.get_mut(&holder) {
            Some(count) if *count >= self.inner.most => return None,
            Some(count) => *count += 1,
            None => {
                counts.insert(holder.clone(), 1);
            }
        }
        drop(counts);
        Some(Seat {
            inner: Arc::clone(&self.inner),
            holder,
        })
    }
}

impl<K> Inner<K> {
    fn counts(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut counts = self.inner.counts();
        if let Some(count) = counts.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let seats = Seats::new(2);
        let first = seats.enter("one").unwrap();
        let _second = seats.enter("one").unwrap();
        assert!(seats.enter("one").is_none());
        assert!(seats.enter("two").is_some());
        drop(first);
        assert!(seats.enter("one").is_some());
        assert_eq!(seats.inner.counts().len(), 1);
    }
}
