//! What the services' own tests stand on: a platform in a temporary directory, with a clock that can be moved.

mod broker_suite;
mod broker_versions_suite;
mod bus;
pub mod event_bus_suite;
pub mod fanout_suite;
mod issuer;
mod manual_clock;
pub mod rate_limit_suite;
mod scene;
mod servers;
pub mod tcp_proxy;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::{Message, Name};
use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;
use uuid::Uuid;

pub use issuer::{IdentityStub, Issuer};
pub use manual_clock::ManualClock;
pub use servers::{TestBus, redis_config};

use crate::database::{Database, DatabaseConfig, Direction, migrate};
use crate::event_bus::{Envelope, EventBus, InProcessBus, RabbitMqConfig};
use crate::fanout::{Fanout, MemoryFanout, RedisFanout};
use crate::keys::Keys;
use crate::principal::{Authenticator, Role};
use crate::rate_limit::{MemoryRateLimitStore, RateLimitStore, RedisRateLimitStore};
use crate::redis_client::{RedisClient, RedisConfig};
use crate::token::{ACCESS_TOKEN_LIFE, AUDIENCE, Claims, ISSUER};
use crate::{Handles, SharedClock, Tasks, consumer, id, outbox, telemetry, time};

/// Longest wait of [`eventually`] when the test does not say.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A platform of its own for one test: directory, clock, bus, fan-out, keys, tasks and an issuer of tokens.
pub struct TestPlatform {
    dir: TempDir,
    databases: servers::Databases,
    redis: Option<RedisClient>,
    broker: Option<Arc<bus::CommittedBus>>,
    clock: SharedClock,
    manual: Option<Arc<ManualClock>>,
    handles: Handles,
    issuer: Issuer,
    authenticator: Authenticator,
}

impl TestPlatform {
    /// With the machine's clock.
    pub async fn start() -> Self {
        Self::with(crate::clock::SystemClock::shared(), None).await
    }

    /// With a clock that stands until the test moves it.
    pub async fn start_with_manual_clock() -> Self {
        let manual = Arc::new(ManualClock::new(jiff::Timestamp::now()));
        Self::with(manual.clone(), Some(manual)).await
    }

    async fn with(clock: SharedClock, manual: Option<Arc<ManualClock>>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let keys = Arc::new(Keys::load_or_create(&dir.path().join("keys")).expect("keys"));
        let tasks = Tasks::new();
        let issuer = Issuer::new();
        // The source of revocations itself, so that a slow machine never makes it stale.
        let revocations = crate::revocation::Revocations::source();
        let authenticator = Authenticator::with_revocations(clock.clone(), &keys, revocations);
        authenticator
            .keys
            .update_from_jwks(&issuer.jwks())
            .expect("the issuer's keys");
        let identity = issuer.serve_identity(&authenticator, &tasks).await;
        let redis = match redis_config() {
            Some(config) => Some(redis_client(&config, &tasks).await),
            None => None,
        };
        let fanout: Arc<dyn Fanout> = match &redis {
            Some(client) => {
                let fanout = RedisFanout::start(client.clone(), &tasks);
                eventually(DEADLINE, || async { fanout.is_connected() }).await;
                Arc::new(fanout)
            }
            None => Arc::new(MemoryFanout::default()),
        };
        let broker = servers::Broker::of_environment().map(|broker| {
            Arc::new(bus::CommittedBus::new(broker.with(|config| {
                config.max_deliveries = RabbitMqConfig::default().max_deliveries;
            })))
        });
        let bus: Arc<dyn EventBus> = match &broker {
            Some(bus) => bus.clone(),
            None => Arc::new(InProcessBus::default()),
        };
        let handles = Handles {
            clock: clock.clone(),
            bus,
            fanout,
            keys,
            tasks,
            health: crate::health::Health::default(),
            tls: None,
            identity: identity.uri().into(),
        };
        Self {
            dir,
            databases: servers::Databases::default(),
            redis,
            broker,
            clock,
            manual,
            handles,
            issuer,
            authenticator,
        }
    }

    /// What a service is started with.
    pub fn handles(&self) -> Handles {
        self.handles.clone()
    }

    /// Handles with tasks of their own, so that a test can stop one service and start it again.
    pub fn handles_with_own_tasks(&self) -> Handles {
        Handles {
            tasks: Tasks::new(),
            ..self.handles.clone()
        }
    }

    /// The directory of this test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The clock of everything in this test.
    pub fn clock(&self) -> SharedClock {
        self.clock.clone()
    }

    /// The clock, to be moved.
    pub fn manual_clock(&self) -> Arc<ManualClock> {
        self.manual.clone().expect("start_with_manual_clock")
    }

    /// An authenticator that knows the issuer's key and has fresh news of revocations.
    pub fn authenticator(&self) -> Authenticator {
        self.authenticator.clone()
    }

    /// Counters of this test: in memory by the clock of this test, or on the Redis server that the environment names, by
    /// the clock of that server.
    pub fn rate_limits(&self) -> Arc<dyn RateLimitStore> {
        match &self.redis {
            Some(client) => Arc::new(RedisRateLimitStore::new(client.clone())),
            None => Arc::new(MemoryRateLimitStore::new(self.clock.clone())),
        }
    }

    /// URL of a database of this test: a file of SQLite, or one on the PostgreSQL server that the environment names.
    pub fn database_url(&self, name: &str) -> String {
        self.databases.url(name).unwrap_or_else(|| {
            let file = self.dir.path().join(format!("{name}.sqlite"));
            format!("sqlite://{}?mode=rwc", file.display())
        })
    }

    /// Configuration of a database of this test.
    pub fn database_config(&self, name: &str) -> DatabaseConfig {
        DatabaseConfig {
            url: self.database_url(name),
            ..DatabaseConfig::default()
        }
    }

    /// Connects to a database of this test and migrates it.
    pub async fn database<M: MigratorTrait>(&self, name: &str) -> Database {
        let db = Database::connect(&self.database_config(name))
            .await
            .expect("a database");
        migrate::<M>(&db, Direction::Up).await.expect("migrations");
        db
    }

    /// Claims of a verified user with a session of their own, good for a while.
    pub fn claims(&self, user: Uuid) -> Claims {
        let now = self.clock.now();
        Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user,
            sid: id::new(now),
            role: Role::User,
            email_verified: true,
            gv: 1,
            iat: now.as_second(),
            exp: now.as_second() + i64::try_from(ACCESS_TOKEN_LIFE.as_secs()).unwrap_or(900),
            nbf: None,
            jti: id::new(now),
        }
    }

    /// An access token of a verified user.
    pub fn token(&self, user: Uuid) -> String {
        self.token_with(&self.claims(user))
    }

    /// An access token with these claims.
    pub fn token_with(&self, claims: &Claims) -> String {
        self.issuer.sign(claims)
    }

    /// Puts an event on the bus as if its service had told it, and waits until every subscriber has committed it.
    pub async fn emit<E: Message + Name>(&self, subject: impl std::fmt::Display, event: &E) {
        self.publish(envelope(self.clock.now(), subject, event))
            .await;
    }

    /// As [`TestPlatform::emit`], with an envelope made by the test: to deliver one twice.
    pub async fn publish(&self, event: Envelope) {
        for outcome in self.handles.bus.publish(vec![event]).await {
            outcome.expect("every subscriber commits the event");
        }
    }
}

/// A client for which Redis is there.
///
/// # Panics
/// When it is not within the deadline.
pub async fn redis_client(config: &RedisConfig, tasks: &Tasks) -> RedisClient {
    let client = RedisClient::start(config, tasks).expect("a configuration");
    tokio::time::timeout(DEADLINE, client.connected())
        .await
        .expect("Redis within the deadline");
    client
}

impl Drop for TestPlatform {
    fn drop(&mut self) {
        if let Some(bus) = &self.broker {
            bus.close();
        }
    }
}

/// An envelope around an event, in the current trace.
pub fn envelope<E: Message + Name>(
    now: jiff::Timestamp,
    subject: impl std::fmt::Display,
    event: &E,
) -> Envelope {
    Envelope {
        id: id::new(now).to_string(),
        r#type: E::full_name(),
        source: "test".to_owned(),
        subject: subject.to_string(),
        time: Some(time::to_proto(now)),
        traceparent: telemetry::current_traceparent().unwrap_or_default(),
        data: event.encode_to_vec(),
    }
}

/// What [`eventually`] waits for: `true`, or something rather than nothing.
pub trait Outcome {
    /// What the wait gives.
    type Value;
    /// The value, once it is there.
    fn value(self) -> Option<Self::Value>;
}

impl Outcome for bool {
    type Value = ();
    fn value(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;
    fn value(self) -> Option<T> {
        self
    }
}

/// Polls a condition until it holds.
///
/// # Panics
/// When it does not within the deadline.
pub async fn eventually<F, Fut, O>(deadline: Duration, mut condition: F) -> O::Value
where
    F: FnMut() -> Fut,
    Fut: Future<Output = O>,
    O: Outcome,
{
    let end = tokio::time::Instant::now() + deadline;
    loop {
        if let Some(value) = condition().await.value() {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "the condition did not hold within {deadline:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until every event of the database was sent, and asserts that none ended among the dead letters.
///
/// # Panics
/// When an event stays unsent, or there is a dead letter.
pub async fn assert_clean(db: &Database) {
    eventually(DEADLINE, || async {
        outbox::unsent(db.reader())
            .await
            .expect("the outbox can be read")
            == 0
    })
    .await;
    let dead = consumer::dead_letters(db.reader())
        .await
        .expect("dead letters can be read");
    assert_eq!(dead, 0, "events ended among the dead letters");
}
