//! When: SMS schedules, claimed when due and followed to their final state.

mod commands;
mod config;
mod csv;
pub mod domain;
mod error;
mod events;
mod grpc;
pub mod providers;
mod queries;
mod storage;
mod workers;

use std::sync::Arc;

use anyhow::Context;
use platform::Handles;
use platform::database::{Database, Direction};
use platform::grpc::server::Server;
use platform::identity;
use platform::outbox::Relay;
use platform::principal::Authenticator;
use platform::work::Work;
use tokio::net::TcpListener;

pub use config::{SchedulerConfig, SendingConfig, SimulatorConfig};
pub use providers::Providers;
pub use providers::journal::SubmitRecord;
pub use providers::simulator::{Simulator, simulator_journal};

use commands::{InFlight, Sms};
use domain::Numbering;
use storage::migrations::Migrator;

/// Name of the service.
pub const SERVICE: &str = "scheduler-service";

/// Starts the service with the providers of its configuration; returns once everything runs as tasks of `handles`.
///
/// # Errors
/// When the database, the schema or the simulator's journal cannot be opened.
pub async fn run(
    config: SchedulerConfig,
    listener: TcpListener,
    handles: Handles,
) -> anyhow::Result<()> {
    let simulator = Simulator::open(config.simulator.clone(), handles.clock.clone())
        .await
        .with_context(|| format!("the journal {}", config.simulator.journal.display()))?;
    run_with(
        config,
        listener,
        handles,
        Providers::new([Arc::new(simulator) as _]),
    )
    .await
}

/// As [`run`], with these providers.
///
/// # Errors
/// When the database or the schema cannot be opened, or the configured region is none.
pub async fn run_with(
    config: SchedulerConfig,
    listener: TcpListener,
    handles: Handles,
    providers: Providers,
) -> anyhow::Result<()> {
    let numbering = Numbering::of_region(&config.default_region)
        .with_context(|| format!("there is no region {}", config.default_region))?;
    let db = Database::connect(&config.database)
        .await
        .context("the scheduler's database")?;
    if config.database.migrate {
        platform::database::migrate::<Migrator>(&db, Direction::Up).await?;
    }
    let work = Work::new(SERVICE, db, handles.clock.clone());
    Relay::new(work.clone(), handles.bus.clone()).run(&handles.tasks);
    platform::maintenance::spawn(work.clone(), &handles.tasks);

    let sms = Sms {
        work,
        config: Arc::new(config),
        numbering,
        providers,
        wakes: Arc::default(),
        in_flight: InFlight::default(),
    };
    workers::spawn(&sms, &handles.tasks);

    let authenticator = Authenticator::new(handles.clock.clone(), &handles.keys);
    identity::follow(
        SERVICE,
        &authenticator,
        handles.identity.clone(),
        &handles.tasks,
    );
    let db = sms.work.db().clone();
    Server::new(SERVICE, authenticator)
        .with_database(&db)
        .of_process(&handles)
        .serve(listener, grpc::routes(sms), &handles.tasks);
    Ok(())
}

/// Brings the schema up to date, undoes the newest step, or only tells what holds; one migration a line.
///
/// # Errors
/// When the database cannot be opened or a migration fails.
pub async fn migrate(config: &SchedulerConfig, direction: Direction) -> anyhow::Result<String> {
    let db = Database::connect(&config.database)
        .await
        .context("the scheduler's database")?;
    let told = platform::database::migrate::<Migrator>(&db, direction).await?;
    db.close().await;
    Ok(told)
}

/// Brings dead letters back to their consumers and tells how many: none, for the scheduler consumes no events.
///
/// # Errors
/// Never; the signature is that of every service.
pub async fn redrive(_config: &SchedulerConfig) -> anyhow::Result<u64> {
    Ok(0)
}
