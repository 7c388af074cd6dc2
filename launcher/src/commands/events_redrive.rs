use std::io::Write;
use std::sync::Arc;

use platform::clock::SystemClock;
use platform::event_bus::InProcessBus;
use platform::fanout::MemoryFanout;
use platform::keys::Keys;
use platform::{Handles, Tasks};

use super::Failure;
use crate::config::Config;
use crate::up::DataDir;

/// What the facts cause in turn waits in the outboxes until the product starts again.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let _data_dir = DataDir::lock(&config.data_dir)?;
    let handles = Handles {
        clock: SystemClock::shared(),
        bus: Arc::new(InProcessBus::default()),
        fanout: Arc::new(MemoryFanout::default()),
        keys: Arc::new(Keys::load_or_create(&config.keys_dir())?),
        tasks: Tasks::new(),
        identity: http::Uri::default(),
    };
    let clock = handles.clock.clone();
    let done = [
        (
            "wallet-service",
            wallet_service::redrive(&config.wallet, &handles).await?,
        ),
        (
            "notify-service",
            notify_service::redrive(&config.notify, clock).await?,
        ),
        (
            "scheduler-service",
            scheduler_service::redrive(&config.scheduler).await?,
        ),
    ];
    let mut out = std::io::stdout();
    for (service, count) in done {
        writeln!(out, "{service}: {count} delivered again")?;
    }
    Ok(())
}
