//! Messages that this process is handing to a provider right now.
//!
//! [`super::lease`] keeps a call and a question about its messages apart by time, among all replicas. Within one process that
//! can be had for certain, however its clocks go: while a message is in flight, nobody of this process asks for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// The messages in flight, with the number of calls that carry each. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashMap<Uuid, u32>>>);

/// Messages of one call; they land when it is dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    all: InFlight,
    ids: Vec<Uuid>,
}

impl InFlight {
    /// Notes that a call is about to carry these messages. To be asked for before the lease is looked at: whoever finds
    /// the lease ended has either seen this note, or the call sees the end of the lease.
    pub(crate) fn enter(&self, ids: Vec<Uuid>) -> Flight {
        let mut calls = self.calls();
        for id in &ids {
            *calls.entry(*id).or_default() += 1;
        }
        drop(calls);
        Flight {
            all: self.clone(),
            ids,
        }
    }

    /// Whether a call carries this message.
    pub(crate) fn has(&self, id: &Uuid) -> bool {
        self.calls().contains_key(id)
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Uuid, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut calls = self.all.calls();
        for id in &self.ids {
            if let Some(count) = calls.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    calls.remove(id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lands_with_the_last_call_that_carries_it() {
        let all = InFlight::default();
        let id = Uuid::from_u128(1);
        let first = all.enter(vec![id]);
        let second = all.enter(vec![id, Uuid::from_u128(2)]);
        drop(first);
        assert!(all.has(&id));
        drop(second);
        assert!(!all.has(&id) && all.calls().is_empty());
    }
}
