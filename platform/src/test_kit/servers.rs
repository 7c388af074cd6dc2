//! Real servers for tests, where the environment names them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::redis_client::RedisConfig;

/// URL of a PostgreSQL server on which tests make databases of their own.
const POSTGRES_VARIABLE: &str = "COFFER_TEST_POSTGRES_URL";
/// URL of a Redis server on which tests use names of their own.
const REDIS_VARIABLE: &str = "COFFER_TEST_REDIS_URL";
/// Longest wait for Redis in tests that are not about it, in milliseconds: a busy machine is no outage.
const REDIS_TIMEOUT_MS: u64 = 10_000;

/// The URL of a real server, where there is one.
fn url(variable: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the settings of tests are not those of the product"
    )]
    let url = std::env::var(variable).ok();
    url.filter(|url| !url.is_empty())
}

/// The Redis server that the environment names, with a prefix that nobody else has; `None` without a server.
pub fn redis_config() -> Option<RedisConfig> {
    Some(RedisConfig {
        url: url(REDIS_VARIABLE)?,
        prefix: format!("test-{}", Uuid::new_v4().simple()),
        timeout_ms: REDIS_TIMEOUT_MS,
    })
}

/// The databases of one test on a real server; dropped with it.
#[derive(Debug, Default)]
pub(super) struct Databases {
    made: Mutex<HashMap<String, String>>,
}

impl Databases {
    /// URL of the database that the test calls `name`, made when it is asked for first; `None` without a server.
    pub(super) fn url(&self, name: &str) -> Option<String> {
        let server = url(POSTGRES_VARIABLE)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = made.get(name) {
            return Some(with_database(&server, database));
        }
        let database = format!("coffer_test_{}_{name}", Uuid::new_v4().simple());
        run_on(&server, format!("CREATE DATABASE {database}")).expect("a database for the test");
        let url = with_database(&server, &database);
        made.insert(name.to_owned(), database);
        Some(url)
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        let made = std::mem::take(self.made.get_mut().unwrap_or_else(PoisonError::into_inner));
        for database in made.into_values() {
            let Some(server) = url(POSTGRES_VARIABLE) else {
                return;
            };
            // A test that failed for a reason of its own should tell that one.
            if let Err(error) = run_on(&server, format!("DROP DATABASE {database} WITH (FORCE)")) {
                tracing::warn!(%error, database, "the database of a test was left behind");
            }
        }
    }
}

/// The same server, another database.
fn with_database(server: &str, database: &str) -> String {
    let (address, parameters) = match server.split_once('?') {
        Some((address, parameters)) => (address, format!("?{parameters}")),
        None => (server, String::new()),
    };
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..]
        .find('/')
        .map_or(address.len(), |at| host + at);
    format!("{}/{database}{parameters}", &address[..end])
}

/// Runs one statement from outside of any runtime, since tests ask for databases in plain code.
fn run_on(server: &str, statement: String) -> anyhow::Result<()> {
    let server = server.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let db = sea_orm::Database::connect(server).await?;
            db.execute_unprepared(&statement).await?;
            db.close().await?;
            anyhow::Ok(())
        })
    })
    .join()
    .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread panicked")))
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_url_gets_another_database_and_keeps_the_rest() {
        for (server, expected) in [
            (
                "postgres://a:b@host:5432/postgres",
                "postgres://a:b@host:5432/x",
            ),
            ("postgres://host", "postgres://host/x"),
            (
                "postgres://host/a?sslmode=require",
                "postgres://host/x?sslmode=require",
            ),
        ] {
            assert_eq!(with_database(server, "x"), expected);
        }
    }
}
