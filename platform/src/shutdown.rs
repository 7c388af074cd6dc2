//! Background tasks with names, that end together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Name = Cow<'static, str>;

/// Owner of every background task of a process, or of one test. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tracker: TaskTracker,
    token: CancellationToken,
    running: Mutex<BTreeMap<u64, Name>>,
    next: AtomicU64,
    failed: watch::Sender<Option<Name>>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. It should end soon after [`Tasks::token`] is cancelled. A panic in it is logged with its name.
    ///
    /// The handle may be dropped; the task runs on.
    pub fn spawn<F>(&self, name: impl Into<Name>, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let running = Running::enter(Arc::clone(&self.inner), name.clone());
        self.inner.tracker.spawn(async move {
            // Moved in, so that the name goes when the task ends in whatever way, aborts included.
            let _running = running;
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                tracing::error!(task.name = %name, panic = panic_text(&*panic), "a task panicked");
            }
        })
    }

    /// Starts a task without which the process is of no use: one that is to run until [`Tasks::token`] is cancelled.
    /// When it panics or ends before, [`Tasks::failed`] tells it, and the process should end so that its supervisor
    /// starts it anew.
    pub fn spawn_critical<F>(&self, name: impl Into<Name>, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let watched = Watched {
            inner: Arc::clone(&self.inner),
            name: name.clone(),
        };
        self.spawn(name, async move {
            // Dropped when the task ends in whatever way, while it unwinds too.
            let _watched = watched;
            future.await;
        })
    }

    /// Waits until a critical task has ended before its time, and gives its name.
    pub async fn failed(&self) -> String {
        let mut failed = self.inner.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(name) => name.as_deref().unwrap_or_default().to_owned(),
            // The sender lives as long as `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// The token that is cancelled when the process shuts down.
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// Names of the tasks that run now, sorted.
    pub fn running(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .inner
            .names()
            .values()
            .map(|name| name.to_string())
            .collect();
        names.sort();
        names
    }

    /// Cancels the token and waits for the tasks, at most `grace`. Returns the names of those that did not end; they
    /// are logged too.
    pub async fn shutdown(&self, grace: Duration) -> Vec<String> {
        self.inner.token.cancel();
        self.inner.tracker.close();
        if tokio::time::timeout(grace, self.inner.tracker.wait())
            .await
            .is_ok()
        {
            return Vec::new();
        }
        let left = self.running();
        if !left.is_empty() {
            tracing::warn!(
                task.names = left.join(", "),
                grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
                "some tasks did not end within the grace period"
            );
        }
        left
    }
}

/// What a panic said, where it said anything.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

impl Inner {
    fn names(&self) -> MutexGuard<'_, BTreeMap<u64, Name>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the end of a critical task.
struct Watched {
    inner: Arc<Inner>,
    name: Name,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.inner.token.is_cancelled() {
            tracing::error!(task.name = %self.name, "a task ended that the process needs");
            self.inner.failed.send_replace(Some(self.name.clone()));
        }
    }
}

struct Running {
    inner: Arc<Inner>,
    number: u64,
}

impl Running {
    fn enter(inner: Arc<Inner>, name: Name) -> Self {
        let number = inner.next.fetch_add(1, Ordering::Relaxed);
        inner.names().insert(number, name);
        Self { inner, number }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.names().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_waits_for_tasks_that_listen() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("listener", async move { token.cancelled().await });
        assert_eq!(tasks.running(), ["listener"]);
        assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
        assert!(tasks.running().is_empty());
    }

    #[tokio::test]
    async fn shutdown_names_the_tasks_that_do_not_end() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending());
        tasks.spawn(format!("deaf-{}", 2), std::future::pending());
        let left = tasks.shutdown(Duration::from_millis(20)).await;
        assert_eq!(left, ["deaf", "deaf-2"]);
    }

    #[tokio::test]
    async fn a_critical_task_that_ends_before_its_time_is_told() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn_critical("sound", async move { token.cancelled().await });
        assert!(tasks.failed().now_or_never().is_none());
        tasks.spawn_critical("broken", async { panic!("on purpose") });
        assert_eq!(tasks.failed().await, "broken");
        assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
    }

    #[tokio::test]
    async fn critical_tasks_may_end_once_the_process_shuts_down() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn_critical("sound", async move { token.cancelled().await });
        assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
        assert!(tasks.failed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_only() {
        let tasks = Tasks::new();
        let broken = tasks.spawn("broken", async { panic!("on purpose") });
        let token = tasks.token();
        tasks.spawn("sound", async move { token.cancelled().await });
        broken.await.unwrap();
        assert_eq!(tasks.running(), ["sound"]);
        assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
    }
}
