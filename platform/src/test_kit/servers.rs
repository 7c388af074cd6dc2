//! Real servers for tests, where the environment names them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::subscriptions::{RETIRED, Retired, Subscription};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::Tasks;
use crate::event_bus::in_process::{InProcessBus, RetryPolicy};
use crate::event_bus::rabbitmq::test_hooks::BackDoor;
use crate::event_bus::{EventBus, RabbitMqBus, RabbitMqConfig};
use crate::redis_client::RedisConfig;

/// URL of a PostgreSQL server on which tests make databases of their own.
const POSTGRES_VARIABLE: &str = "COFFER_TEST_POSTGRES_URL";
/// URL of a Redis server on which tests use names of their own.
const REDIS_VARIABLE: &str = "COFFER_TEST_REDIS_URL";
/// URL of a RabbitMQ server on which tests make exchanges and queues of their own.
const AMQP_VARIABLE: &str = "COFFER_TEST_AMQP_URL";
/// Set where the servers must be there: a test that needs one then fails without it, rather than be passed over.
const REQUIRED_VARIABLE: &str = "COFFER_TEST_SERVERS";
/// Longest wait for Redis in tests that are not about it, in milliseconds: a busy machine is no outage.
const REDIS_TIMEOUT_MS: u64 = 10_000;
/// Deliveries before an event is a dead letter, on a [`TestBus`].
pub(super) const MAX_DELIVERIES: u32 = 5;
/// After this time the broker itself removes what a test left behind.
const EXPIRE_AFTER: Duration = Duration::from_secs(600);

/// The URL of a real server, where there is one.
fn url(variable: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the settings of tests are not those of the product"
    )]
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let url = read(variable);
    assert!(
        url.is_some() || read(REQUIRED_VARIABLE).is_none(),
        "{REQUIRED_VARIABLE} is set, but {variable} is not"
    );
    url
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

/// A real broker, with names of its own for one test.
#[derive(Clone)]
pub(super) struct Broker {
    url: String,
    pub(super) config: RabbitMqConfig,
}

impl Broker {
    /// The broker that the environment names.
    pub(super) fn of_environment() -> Option<Self> {
        let url = url(AMQP_VARIABLE)?;
        Some(Self {
            config: RabbitMqConfig {
                url: url.clone(),
                prefix: format!("test-{}", Uuid::new_v4().simple()),
                retry_pauses_ms: vec![30],
                max_deliveries: MAX_DELIVERIES,
                expire_after: Some(EXPIRE_AFTER),
                ..RabbitMqConfig::default()
            },
            url,
        })
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        let uri: lapin::uri::AMQPUri = self.url.parse().expect("a URL of AMQP");
        format!("{}:{}", uri.authority.host, uri.authority.port)
    }

    /// From now on over this address, which leads to the same broker.
    pub(super) fn go_over(&mut self, address: SocketAddr) {
        let mut uri: lapin::uri::AMQPUri = self.url.parse().expect("a URL of AMQP");
        uri.authority.host = address.ip().to_string();
        uri.authority.port = address.port();
        self.config.url = uri.to_string();
    }

    /// A bus that knows what is subscribed on it.
    pub(super) fn bus(&self) -> TestBus {
        self.bus_with(&[])
    }

    /// The same names at the broker, with other settings.
    pub(super) fn with(&self, adapt: impl FnOnce(&mut RabbitMqConfig)) -> Self {
        let mut other = self.clone();
        adapt(&mut other.config);
        other
    }

    /// A bus that knows these subscriptions from the start.
    pub(super) fn bus_with(&self, subscriptions: &[Subscription]) -> TestBus {
        self.bus_retiring(subscriptions, RETIRED)
    }

    /// A bus that also knows what is taken no more.
    pub(super) fn bus_retiring(
        &self,
        subscriptions: &[Subscription],
        retired: &'static [Retired],
    ) -> TestBus {
        let tasks = Tasks::new();
        let bus =
            RabbitMqBus::connect_retiring(&self.config, "test", subscriptions, retired, &tasks)
                .expect("sound settings");
        TestBus {
            bus: bus.clone(),
            rabbitmq: Some(OwnBus {
                bus,
                tasks,
                url: self.url.clone(),
            }),
        }
    }
}

/// A bus that takes its queues along when it goes.
pub struct TestBus {
    /// The bus.
    pub bus: Arc<dyn EventBus>,
    pub(super) rabbitmq: Option<OwnBus>,
}

impl TestBus {
    /// A bus in the process, with short pauses.
    pub fn in_process() -> Self {
        let retry = RetryPolicy {
            max_deliveries: MAX_DELIVERIES,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(40),
        };
        Self {
            bus: Arc::new(InProcessBus::new(retry)),
            rabbitmq: None,
        }
    }

    /// A bus on the broker that the environment names, with short pauses.
    pub fn rabbitmq() -> Option<Self> {
        Some(Broker::of_environment()?.bus())
    }
}

/// A bus on a broker that others use too.
pub(super) struct OwnBus {
    pub(super) bus: Arc<RabbitMqBus>,
    pub(super) tasks: Tasks,
    url: String,
}

impl OwnBus {
    pub(super) fn back_door(&self) -> BackDoor {
        self.bus.back_door(&self.url).expect("a URL of AMQP")
    }
}

impl Drop for OwnBus {
    fn drop(&mut self) {
        self.tasks.token().cancel();
        // Else its consumers would make the queues again.
        self.bus.cut();
        if let Err(error) = self.back_door().remove_everything() {
            tracing::warn!(%error, "the queues of a test were left behind");
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
