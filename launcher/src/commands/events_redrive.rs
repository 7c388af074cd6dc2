use std::io::Write;
use std::sync::Arc;

use platform::clock::SystemClock;
use platform::database::DatabaseConfig;
use platform::event_bus::InProcessBus;
use platform::fanout::MemoryFanout;
use platform::grpc::client::Upstream;
use platform::health::Health;
use platform::keys::Keys;
use platform::{Handles, Tasks};

use super::Failure;
use crate::config::Config;
use crate::up::DataDir;

/// What the facts cause in turn waits in the outboxes until the product starts again.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let databases = [
        &config.wallet.database,
        &config.notify.database,
        &config.scheduler.database,
    ];
    // Connecting would make them.
    if databases.into_iter().any(DatabaseConfig::is_missing) {
        return Err(super::no_data(config));
    }
    // The log tells why a letter failed again.
    let _telemetry = platform::telemetry::init(&config.telemetry, "coffer")
        .map_err(|error| anyhow::anyhow!("telemetry cannot start: {error}"))?;
    let _data_dir = DataDir::lock(&config.data_dir)?;
    let handles = Handles {
        clock: SystemClock::shared(),
        bus: Arc::new(InProcessBus::default()),
        fanout: Arc::new(MemoryFanout::default()),
        keys: Arc::new(Keys::load_or_create(&config.keys_dir())?),
        tasks: Tasks::new(),
        health: Health::default(),
        tls: None,
        identity: Upstream::default(),
    };
    let done = [
        (
            "wallet-service",
            wallet_service::redrive(&config.wallet, &handles).await?,
        ),
        (
            "notify-service",
            notify_service::redrive(&config.notify, &handles).await?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_there_is_no_data_it_says_so_and_makes_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            data_dir: folder.path().join("data"),
            ..Config::default()
        }
        .rooted();
        let Err(Failure::Broken(error)) = run(&config).await else {
            panic!("nothing is there to deliver");
        };
        assert!(error.to_string().contains("there is no data"), "{error}");
        assert!(!config.data_dir.exists());
    }
}
