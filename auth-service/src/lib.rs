//! Who: accounts, sessions, tokens and the keys that sign them.

pub mod commands;
pub mod config;
pub mod domain;
pub mod error;
pub mod events;
pub mod grpc;
pub mod hashing;
pub mod queries;
pub mod revocation_feed;
pub mod signing;
pub mod storage;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use platform::database::{self, Database, DatabaseConfig, Direction};
use platform::grpc::server::Server;
use platform::outbox::Relay;
use platform::principal::Authenticator;
use platform::work::Work;
use platform::{Handles, Tasks, maintenance};
use tokio::net::TcpListener;
use tonic::service::Routes;

use commands::Commands;
pub use config::AuthConfig;
use grpc::IdentityGrpc;
use hashing::Hasher;
use queries::search_users::Search;
use revocation_feed::RevocationFeed;
use signing::Signer;
use storage::migrations::Migrator;

/// The name of the service in events and logs.
pub const NAME: &str = "auth-service";

/// Pause between two removals of what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Starts the service; returns once it answers on `listener`. It runs in tasks of `handles` until these are told to end.
///
/// # Errors
/// When the database does not answer, or a key cannot be read.
pub async fn run(
    config: AuthConfig,
    listener: TcpListener,
    handles: Handles,
) -> anyhow::Result<()> {
    let db = Database::connect(&config.database)
        .await
        .context("connecting to the database")?;
    if config.database.migrate {
        database::migrate::<Migrator>(&db, Direction::Up)
            .await
            .context("migrating")?;
    }
    let Handles {
        clock,
        bus,
        keys,
        tasks,
        ..
    } = handles.clone();
    let work = Work::new(NAME, db, clock.clone());
    let signer = Signer::load_or_create(&keys, clock.now()).context("loading the signing keys")?;

    // Others follow us; we know keys and revocations at first hand.
    let authenticator = Authenticator::new(clock, &keys);
    authenticator.keys.update_from_jwks(signer.jwks())?;
    let feed = RevocationFeed::new(authenticator.revocations.clone());
    let looks = Database::connect(&DatabaseConfig {
        max_connections: 1,
        ..config.database.clone()
    })
    .await
    .context("connecting to the database for the heartbeats")?;
    feed.start(looks, authenticator.clock().clone(), &tasks)
        .await
        .context("reading what is revoked")?;

    Relay::new(work.clone(), bus).run(&tasks);
    maintenance::spawn(work.clone(), &tasks);
    spawn_sweep(work.clone(), &tasks);

    let db = work.db().clone();
    let search = Search::new(work.db().clone(), &config.search);
    let hasher = Hasher::new(&config.password_hash)?;
    let commands = Arc::new(Commands {
        work,
        config,
        keys,
        hasher,
        signer,
        feed,
    });
    let routes = Routes::new(IdentityGrpc::server(commands, search, tasks.clone()));
    Server::new(NAME, authenticator)
        .with_database(&db)
        .of_process(&handles)
        .serve(listener, routes, &tasks);
    Ok(())
}

/// Migrates the database and tells what holds afterwards, one migration a line.
///
/// # Errors
/// When the database does not answer or a migration fails.
pub async fn migrate(config: &AuthConfig, direction: Direction) -> anyhow::Result<String> {
    let db = Database::connect(&config.database)
        .await
        .context("connecting to the database")?;
    let told = database::migrate::<Migrator>(&db, direction)
        .await
        .context("migrating")?;
    db.close().await;
    Ok(told)
}

fn spawn_sweep(work: Work, tasks: &Tasks) {
    let token = tasks.token();
    tasks.spawn("auth-service-sweep", async move {
        loop {
            if let Err(error) = storage::sweep::run(&work, work.now()).await {
                tracing::warn!(%error, "what has expired could not be removed; next round later");
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    });
}
