//! What handlers share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use platform::health::Health;
use platform::identity::Authenticator;
use platform::rate_limit::RateLimitStore;
use platform::{SharedClock, Tasks};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::clients::Clients;
use crate::config::GatewayConfig;
use crate::edge::client_address::Network;
use crate::edge::limits::Limits;
use crate::openapi::{self, QueryParameters};
use crate::routes::health::Readiness;
use crate::routes::well_known::KeyCache;
use crate::seats::Seats;

/// State of the gateway: configuration and connections, nothing that would have to survive. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
}

/// See [`App`].
pub(crate) struct Inner {
    pub(crate) config: GatewayConfig,
    pub(crate) clients: Clients,
    pub(crate) door: Door,
    /// Sockets of the stream, by user.
    pub(crate) sockets: Seats<Uuid>,
    pub(crate) caches: Caches,
    pub(crate) tasks: Tasks,
    /// Whether this process is about to end.
    pub(crate) health: Health,
}

/// What decides who is let in.
pub(crate) struct Door {
    pub(crate) authenticator: Authenticator,
    pub(crate) limits: Limits,
    pub(crate) trusted_proxies: Vec<Network>,
    /// Requests that are worked on, without uploads.
    pub(crate) places: Semaphore,
    /// Uploads under way.
    pub(crate) uploads: Semaphore,
    /// Uploads under way, by user.
    pub(crate) uploaders: Seats<Uuid>,
}

/// What is made once, or kept for a moment, so that answering everybody is cheap.
pub(crate) struct Caches {
    pub(crate) readiness: Readiness,
    pub(crate) keys: KeyCache,
    pub(crate) document: Bytes,
    pub(crate) query_parameters: QueryParameters,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl App {
    pub(crate) fn new(
        config: GatewayConfig,
        clients: Clients,
        authenticator: Authenticator,
        store: Arc<dyn RateLimitStore>,
        tasks: Tasks,
        health: Health,
    ) -> Self {
        let door = Door {
            limits: Limits::new(&config.rate_limit, store, authenticator.clock().clone()),
            authenticator,
            trusted_proxies: config
                .trusted_proxies
                .iter()
                .filter_map(|text| Network::parse(text))
                .collect(),
            places: semaphore(config.max_concurrent_requests),
            uploads: semaphore(config.max_concurrent_uploads),
            uploaders: Seats::new(config.max_uploads_per_user),
        };
        let caches = Caches {
            readiness: Readiness::default(),
            keys: KeyCache::default(),
            document: openapi::document(),
            query_parameters: openapi::query_parameters(),
        };
        let sockets = Seats::new(config.stream.max_per_user);
        Self {
            inner: Arc::new(Inner {
                config,
                clients,
                door,
                sockets,
                caches,
                tasks,
                health,
            }),
        }
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        self.door.authenticator.clock()
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.config.body_timeout_ms)
    }
}

fn semaphore(places: usize) -> Semaphore {
    Semaphore::new(places.min(Semaphore::MAX_PERMITS))
}
