//! What the tests of the one process and of the separate processes share.

#![allow(dead_code, reason = "each of the two uses its own part of it")]

pub(crate) mod load;
pub(crate) mod people;
pub(crate) mod proof;

use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::{Instant, sleep};

/// Longest wait for anything that takes a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(25);

/// The machine: the fault test wants it for itself, lest it starve what the others wait for.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// The machine, shared with other tests.
pub(crate) async fn together() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// The machine, once all others are done with it.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// Asks again and again until there is a value.
pub(crate) async fn eventually<T, F>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Option<T>>,
{
    let until = Instant::now() + patience;
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(Instant::now() < until, "waited {patience:?} for: {what}");
        sleep(POLL).await;
    }
}

/// Drawn, or taken from `COFFER_TEST_SEED` to repeat the moments of a failed run.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is steered by its environment"
)]
pub(crate) fn seed() -> u64 {
    let given = std::env::var("COFFER_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("COFFER_TEST_SEED={seed}");
    seed
}
