//! What two or more services need and that knows no business noun.
//!
//! The heart is [`work`]: one transaction holds the state that changed, the events that tell of it and
//! the answer that a retry gets. [`outbox`] carries the events to the [`event_bus`], and [`consumer`]
//! brings them, once, into the transactions of others.

mod backlog;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod database;
pub mod email;
pub mod error;
pub mod event_bus;
pub mod fanout;
pub mod grpc;
pub mod health;
pub mod id;
pub mod idempotency;
pub mod identity;
pub mod keys;
pub mod maintenance;
pub mod metrics;
mod migrations;
pub mod outbox;
pub mod page;
pub mod principal;
pub mod process;
pub mod rate_limit;
pub mod redis_client;
pub mod revocation;
pub mod shutdown;
pub mod telemetry;
#[cfg(feature = "test-kit")]
pub mod test_kit;
pub mod time;
pub mod token;
pub mod work;

use std::sync::Arc;

pub use clock::SharedClock;
pub use error::{Error, FieldViolation, Kind};
pub use migrations::migrations;
pub use shutdown::Tasks;

/// What a service gets from whoever starts it: everything that the two profiles provide differently.
#[derive(Clone)]
pub struct Handles {
    /// Tells the time.
    pub clock: SharedClock,
    /// Carries facts between services.
    pub bus: Arc<dyn event_bus::EventBus>,
    /// Pokes the processes that hold live connections.
    pub fanout: Arc<dyn fanout::Fanout>,
    /// Secrets that services share.
    pub keys: Arc<keys::Keys>,
    /// Owner of every background task.
    pub tasks: Tasks,
    /// Where the parts tell whether they work.
    pub health: health::Health,
    /// TLS between services; `None` where calls travel in the clear.
    pub tls: Option<grpc::tls::Tls>,
    /// Where auth-service answers gRPC.
    pub identity: grpc::client::Upstream,
}
