pub(crate) mod clock;
pub(crate) mod people;
pub(crate) mod process;
pub(crate) mod product;

use std::path::Path;
use std::time::Duration;

use launcher::config::Config;
use platform::database::Database;
use platform::{consumer, outbox};
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

/// Names of the sections of those services that keep state.
pub(crate) const SERVICES: [&str; 4] = ["auth", "wallet", "notify", "scheduler"];

/// What every process of a test is given: no rate limits, cheap passwords, no colours.
pub(crate) const TEST_ENV: [(&str, &str); 4] = [
    ("COFFER_GATEWAY__RATE_LIMIT__ENABLED", "false"),
    ("COFFER_AUTH__PASSWORD_HASH__MEMORY_KIB", "64"),
    ("COFFER_AUTH__PASSWORD_HASH__ITERATIONS", "1"),
    ("NO_COLOR", "1"),
];

/// Facts that wait to be told, and facts that were given up, in the database of a service.
pub(crate) async fn unsettled(data: &Path, service: &str) -> (u64, u64) {
    let config = Config {
        data_dir: data.to_owned(),
        ..Config::default()
    };
    let config = config.rooted();
    let database = match service {
        "auth" => config.auth.database,
        "wallet" => config.wallet.database,
        "notify" => config.notify.database,
        "scheduler" => config.scheduler.database,
        other => panic!("{other} keeps no state"),
    };
    let db = Database::connect(&database).await.expect("it can be read");
    let unsent = outbox::unsent(db.reader())
        .await
        .expect("the outbox can be read");
    let dead = consumer::dead_letters(db.reader())
        .await
        .expect("dead letters can be read");
    db.close().await;
    (unsent, dead)
}
