//! Databases: SQLite with its one writer, or PostgreSQL.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};
use serde::{Deserialize, Serialize};

use crate::Error;

mod migrate;
mod postgres;

pub use migrate::{Direction, migrate};

/// Where a service keeps its state.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite://path?mode=rwc` or `postgres://user:password@host/database`. Empty: a file in the data directory.
    pub url: String,
    /// Most connections that are open at a time. SQLite: readers; the one writer is apart.
    pub max_connections: u32,
    /// How long a request waits for a connection, in milliseconds, before it is refused.
    pub acquire_timeout_ms: u64,
    /// Longest that one statement may take, in milliseconds, before the server ends it. PostgreSQL only.
    pub statement_timeout_ms: u64,
    /// Longest that a transaction may do nothing, in milliseconds, before the server ends it. PostgreSQL only.
    pub idle_in_transaction_timeout_ms: u64,
    /// Whether the service brings its schema up to date when it starts. Safe with any number of replicas: one does it
    /// and the others wait.
    pub migrate: bool,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            max_connections: 8,
            acquire_timeout_ms: 10_000,
            statement_timeout_ms: 15_000,
            idle_in_transaction_timeout_ms: 15_000,
            migrate: true,
        }
    }
}

impl DatabaseConfig {
    /// Whether it is a file of SQLite that is not there: connecting would make it.
    pub fn is_missing(&self) -> bool {
        self.url.starts_with("sqlite")
            && SqliteConnectOptions::from_str(&self.url)
                .is_ok_and(|options| !options.get_filename().exists())
    }

    /// Problems of this section; `key` is its name in the configuration.
    pub fn problems(&self, key: &str) -> Vec<crate::config::Problem> {
        let mut problems = Vec::new();
        let known = ["sqlite:", "postgres:", "postgresql:"];
        if !known.iter().any(|scheme| self.url.starts_with(scheme)) {
            problems.push(crate::config::Problem {
                key: format!("{key}.url"),
                message: "must begin with sqlite: or postgres:".to_owned(),
            });
        } else if self.url.starts_with("postgres") && PgConnectOptions::from_str(&self.url).is_err()
        {
            problems.push(crate::config::Problem {
                key: format!("{key}.url"),
                message: "is not a URL of PostgreSQL: postgres://user:password@host:port/database"
                    .to_owned(),
            });
        }
        if !(1..=1000).contains(&self.max_connections) {
            problems.push(crate::config::Problem {
                key: format!("{key}.max_connections"),
                message: "must be between 1 and 1000".to_owned(),
            });
        }
        for (value, name) in [
            (self.acquire_timeout_ms, "acquire_timeout_ms"),
            (self.statement_timeout_ms, "statement_timeout_ms"),
            (
                self.idle_in_transaction_timeout_ms,
                "idle_in_transaction_timeout_ms",
            ),
        ] {
            if !(1..=3_600_000).contains(&value) {
                problems.push(crate::config::Problem {
                    key: format!("{key}.{name}"),
                    message: "must be between 1 and 3600000 (one hour)".to_owned(),
                });
            }
        }
        problems
    }
}

/// An open database. Cheap to clone.
///
/// SQLite has one writing connection, whose pool is the queue in which writers wait in order, and read-only connections
/// beside it. On PostgreSQL both are the same pool.
#[derive(Clone)]
pub struct Database {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    name: Arc<str>,
    config: Arc<DatabaseConfig>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Database")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Connects.
    ///
    /// # Errors
    /// When the URL is wrong or the server does not answer.
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, Error> {
        let name: Arc<str> = name_of(&config.url).into();
        if !config.url.starts_with("sqlite") {
            let pool = postgres::connect(config).await?;
            return Ok(Self {
                reader: pool.clone(),
                writer: pool,
                name,
                config: Arc::new(config.clone()),
            });
        }
        let mut writing = options(config, 1);
        writing.map_sqlx_sqlite_opts(|o| {
            o.journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(5))
                .foreign_keys(true)
                .create_if_missing(true)
        });
        let writer = sea_orm::Database::connect(writing).await?;
        let mut reading = options(config, config.max_connections);
        reading.map_sqlx_sqlite_opts(|o| {
            o.busy_timeout(Duration::from_secs(5))
                .pragma("query_only", "on")
        });
        let reader = sea_orm::Database::connect(reading).await?;
        Ok(Self {
            writer,
            reader,
            name,
            config: Arc::new(config.clone()),
        })
    }

    /// For reads that see what is committed.
    pub fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Which database it is.
    pub fn backend(&self) -> DbBackend {
        self.writer.get_database_backend()
    }

    /// Name for logs: the last part of the URL's path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins a writing transaction; on SQLite it holds the write lock from the start. Dropped, it rolls back.
    ///
    /// # Errors
    /// `database_unavailable` when no connection becomes free in time.
    pub async fn begin(&self) -> Result<DatabaseTransaction, Error> {
        Ok(self
            .writer
            .begin_with_options(TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            })
            .await?)
    }

    /// Answers whether the database answers.
    ///
    /// # Errors
    /// As any query.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(self.reader.ping().await?)
    }

    /// Records how many connections the pool has, by state. PostgreSQL only: of SQLite there is nothing to tell.
    pub(crate) fn record_connections(&self) {
        if self.backend() != DbBackend::Postgres {
            return;
        }
        let pool = self.writer.get_postgres_connection_pool();
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        let busy = pool.size().saturating_sub(idle);
        for (state, count) in [("idle", idle), ("busy", busy)] {
            metrics::gauge!("database_connections", "database" => self.name.to_string(), "state" => state)
                .set(f64::from(count));
        }
    }

    /// Closes all connections.
    pub async fn close(self) {
        for pool in [self.reader, self.writer] {
            if let Err(error) = pool.close().await {
                tracing::warn!(database = %self.name, %error, "database did not close cleanly");
            }
        }
    }
}

/// The last part of the path of a URL: never its host, let alone a password.
fn name_of(url: &str) -> &str {
    let rest = url.split_once(':').map_or("", |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = match rest.strip_prefix("//") {
        // What stands between `//` and the next `/` is a host, but for files.
        Some(rest) if !url.starts_with("sqlite") => {
            rest.split_once('/').map_or("", |(_, path)| path)
        }
        Some(rest) => rest,
        None => rest,
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.is_empty() { "database" } else { name }
}

fn options(config: &DatabaseConfig, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(config.url.clone());
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(Duration::from_millis(config.acquire_timeout_ms))
        .test_before_acquire(false)
        .sqlx_logging(false);
    options
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_name_is_the_end_of_the_path_and_never_a_secret() {
        for (url, name) in [
            ("sqlite:///var/lib/coffer/wallet.db?mode=rwc", "wallet.db"),
            ("sqlite::memory:", ":memory:"),
            (
                "postgres://coffer:secret@db:5432/wallet?sslmode=require",
                "wallet",
            ),
            ("postgres://coffer:secret@db:5432", "database"),
            (
                "postgres://coffer:secret@db/?sslmode=verify-full",
                "database",
            ),
        ] {
            assert_eq!(name_of(url), name);
        }
    }
}
