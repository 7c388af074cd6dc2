//! What a service as a process of its own gets from its surroundings.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::{Stage, is_address};
use crate::Handles;
use crate::config::{Problem, nested};
use crate::event_bus::{RabbitMqBus, RabbitMqConfig};
use crate::fanout::{Fanout, MemoryFanout, RedisFanout};
use crate::grpc::client::Upstream;
use crate::grpc::tls::{Tls, TlsConfig};
use crate::keys::Keys;
use crate::redis_client::{RedisClient, RedisConfig};

/// Where the services answer that every service calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthUpstream {
    /// auth-service: `http://host:port`, or several separated by commas; a name stands for every address that it
    /// resolves to. auth-service itself needs none.
    pub auth: String,
}

/// Whom a service cannot do without.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Tokens are checked with the keys of auth-service, which itself has them.
    pub auth: bool,
    /// Live connections in other replicas are poked.
    pub redis: bool,
}

/// The settings of a service that are not its own.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Name of the service.
    pub name: &'static str,
    /// Whom it needs.
    pub needs: Needs,
    /// Where it answers.
    pub grpc_listen: &'a str,
    /// Folder of shared secrets.
    pub keys_dir: &'a Path,
    /// Whom it calls.
    pub services: &'a AuthUpstream,
    /// TLS between services.
    pub tls: &'a TlsConfig,
    /// The broker.
    pub rabbitmq: &'a RabbitMqConfig,
    /// Where live connections are poked.
    pub redis: &'a RedisConfig,
}

impl Surroundings<'_> {
    /// Every problem, with whole keys.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !is_address(self.grpc_listen) {
            let message = "must be an address and a port, e.g. 0.0.0.0:50051";
            problems.push(Problem::new("grpc_listen", message));
        }
        if self.keys_dir.as_os_str().is_empty() {
            problems.push(Problem::new("keys_dir", "must not be empty"));
        }
        if self.needs.auth && self.services.auth.is_empty() {
            let message = "must be set, e.g. http://auth-service:50051";
            problems.push(Problem::new("services.auth", message));
        }
        if !self.services.auth.is_empty()
            && let Some(message) = Upstream::problem(&self.services.auth, self.tls.is_on())
        {
            problems.push(Problem::new("services.auth", message));
        }
        problems.extend(nested("tls", self.tls));
        problems.extend(nested("rabbitmq", self.rabbitmq));
        if self.needs.redis {
            problems.extend(nested("redis", self.redis));
        }
        problems
    }

    /// Takes the port on which the service answers.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn listen(&self) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(self.grpc_listen)
            .await
            .with_context(|| format!("cannot listen on {} for calls", self.grpc_listen))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// Opens what the service is started with. The broker and Redis may be away; keys must be there.
    ///
    /// # Errors
    /// When a key or certificate is missing or an address is wrong.
    pub fn open(&self, stage: &Stage) -> anyhow::Result<Handles> {
        let tls = Tls::load(self.tls)?;
        let identity = match self.services.auth.as_str() {
            "" => Upstream::default(),
            text => Upstream::parse(text, tls.as_ref())
                .map_err(|problem| anyhow::anyhow!("services.auth {problem}"))?,
        };
        let keys = Keys::load(self.keys_dir)?;
        let subscriptions = proto::subscriptions::ALL;
        let bus = RabbitMqBus::connect(self.rabbitmq, self.name, subscriptions, &stage.tasks)?;
        let broker = Arc::clone(&bus);
        stage.watch("rabbitmq", move || broker.is_connected());
        let fanout: Arc<dyn Fanout> = if self.needs.redis {
            let redis = RedisClient::start(self.redis, &stage.tasks)?;
            let asked = redis.clone();
            stage.watch("redis", move || asked.is_connected());
            Arc::new(RedisFanout::start(redis, &stage.tasks))
        } else {
            // Only live connections are poked, and this service has none.
            Arc::new(MemoryFanout::default())
        };
        Ok(Handles {
            clock: stage.clock.clone(),
            bus,
            fanout,
            keys: Arc::new(keys),
            tasks: stage.tasks.clone(),
            health: stage.health.clone(),
            tls,
            identity,
        })
    }
}
