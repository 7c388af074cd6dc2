//! Money: the ledger and everything that moves or explains it.
//!
//! Owns accounts, entries and transactions. Serves `wallet.v1.Wallet`. Every movement is two entries that sum to zero,
//! decided by the pure ledger in [`domain`] and committed in batches by one task, the poster.

mod commands;
mod config;
pub mod domain;
mod error;
mod events;
mod grpc;
mod providers;
mod queries;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use platform::config::Validate;
use platform::consumer::Consumer;
use platform::database::{Database, Direction};
use platform::grpc::server::Server;
use platform::outbox::Relay;
use platform::principal::Authenticator;
use platform::work::Work;
use platform::{Handles, identity, maintenance};
use proto::subscriptions::WALLET_USERS;
use proto::wallet::v1::wallet_server::WalletServer;
use tokio::net::TcpListener;
use tonic::service::Routes;

pub use config::{PosterConfig, WalletConfig};
pub use queries::{Difference, LedgerReport, verify_ledger};
pub use storage::verification::CurrencyTotal;

use commands::{Commands, Poster, PosterLimits};
use domain::{Categories, Currency};
use events::UserEvents;
use grpc::WalletGrpc;
use providers::Funding;
use storage::migrations::Migrator;

/// Name of this service, in events, logs and health checks.
pub const NAME: &str = "wallet-service";

/// Starts the service on `listener`; returns once everything runs. It ends with `handles.tasks`.
///
/// # Errors
/// When a setting is wrong, or the database cannot be opened or migrated.
pub async fn run(
    config: WalletConfig,
    listener: TcpListener,
    handles: Handles,
) -> anyhow::Result<()> {
    let work = open(&config, &handles).await?;
    if config.database.migrate {
        platform::database::migrate::<Migrator>(work.db(), Direction::Up).await?;
    }
    let (tasks, db) = (&handles.tasks, work.db().clone());

    handles
        .bus
        .subscribe(consumer(&config, &work)?, tasks)
        .await?;
    Relay::new(work.clone(), handles.bus.clone()).run(tasks);
    maintenance::spawn(work.clone(), tasks);

    let limits = PosterLimits {
        batch: usize::try_from(config.poster.batch)?,
        queue: usize::try_from(config.poster.queue)?,
        patience: Duration::from_millis(config.poster.try_timeout_ms),
    };
    let poster = Poster::start(work.clone(), limits, tasks);
    let funding = Funding::new(&config.funding_source).context("unknown funding source")?;
    let wallet = WalletGrpc {
        commands: Commands::new(work.clone(), poster, funding),
        work,
        categories: Arc::new(Categories::new(&config.categories)),
        keys: handles.keys.clone(),
    };

    let authenticator = Authenticator::new(handles.clock.clone(), &handles.keys);
    identity::follow(NAME, &authenticator, handles.identity.clone(), tasks);
    Server::new(NAME, authenticator)
        .with_database(&db)
        .of_process(&handles)
        .serve(listener, Routes::new(WalletServer::new(wallet)), tasks);
    Ok(())
}

/// Migrates the database and tells what holds afterwards.
///
/// # Errors
/// When the database cannot be opened or a migration fails.
pub async fn migrate(config: &WalletConfig, direction: Direction) -> anyhow::Result<String> {
    let db = Database::connect(&config.database).await?;
    Ok(platform::database::migrate::<Migrator>(&db, direction).await?)
}

/// Delivers the events that were put among the dead letters once more; returns how many were taken.
///
/// # Errors
/// When the database does not answer or has no tables yet.
pub async fn redrive(config: &WalletConfig, handles: &Handles) -> anyhow::Result<u64> {
    let work = open(config, handles).await?;
    let ready = storage::has_schema(work.db()).await?;
    anyhow::ensure!(ready, "the wallet has no tables yet");
    Ok(consumer(config, &work)?.redrive().await?)
}

async fn open(config: &WalletConfig, handles: &Handles) -> anyhow::Result<Work> {
    let problems = config.validate();
    anyhow::ensure!(problems.is_empty(), "wallet settings: {problems:?}");
    let db = Database::connect(&config.database).await?;
    Ok(Work::new(NAME, db, handles.clock.clone()))
}

fn consumer(config: &WalletConfig, work: &Work) -> anyhow::Result<Arc<Consumer>> {
    let default_currency =
        Currency::parse(&config.default_currency).context("unknown default currency")?;
    let handler = Arc::new(UserEvents { default_currency });
    Ok(Consumer::new(WALLET_USERS.consumer, work.clone(), handler))
}
