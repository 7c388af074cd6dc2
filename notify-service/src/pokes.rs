//! Pokes: telling live connections that a stream has grown.
//!
//! Commits mark users; one task carries the marks to the fan-out. Marks of one user that come close together become one
//! poke, and what waits is bounded by the number of users. A poke may be lost: readers also look by themselves.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use platform::Tasks;
use platform::fanout::Fanout;
use tokio::sync::Notify;
use uuid::Uuid;

/// Pokes that are under way at the same time.
const AT_ONCE: usize = 64;

/// How long the carrier may take for one.
const WITHIN: Duration = Duration::from_secs(1);

/// The topic on which the readers of a user's stream are poked.
pub(crate) fn topic(user_id: Uuid) -> String {
    format!("stream/{user_id}")
}

/// Users whose streams have grown and whose readers were not yet told.
#[derive(Debug, Default)]
pub(crate) struct Pokes {
    marked: Mutex<BTreeSet<Uuid>>,
    wake: Notify,
}

impl Pokes {
    /// Notes that the streams of these users have grown.
    pub(crate) fn mark(&self, users: impl IntoIterator<Item = Uuid>) {
        self.marked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(users);
        self.wake.notify_one();
    }

    /// Starts the task that carries the marks to the fan-out.
    pub(crate) fn run(self: &Arc<Self>, fanout: Arc<dyn Fanout>, tasks: &Tasks) {
        let (pokes, token) = (Arc::clone(self), tasks.token());
        tasks.spawn_critical("notify-pokes", async move {
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = pokes.wake.notified() => {}
                }
                // Side by side: a carrier that is another process takes its time for each.
                let publish = async |user_id| {
                    let topic = topic(user_id);
                    let published = fanout.publish(&topic, Bytes::new());
                    match tokio::time::timeout(WITHIN, published).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "a poke was lost"),
                        Err(_) => tracing::debug!("a poke was lost: no answer in time"),
                    }
                };
                futures::stream::iter(pokes.take())
                    .for_each_concurrent(AT_ONCE, publish)
                    .await;
            }
        });
    }

    fn take(&self) -> BTreeSet<Uuid> {
        std::mem::take(&mut *self.marked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
