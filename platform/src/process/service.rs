//! What a service as a process of its own gets from its surroundings.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::{Stage, is_address};
use crate::config::{Problem, nested};
use crate::event_bus::{EventBus, RabbitMqBus, RabbitMqConfig};
use crate::fanout::{Fanout, MemoryFanout, RedisFanout};
use crate::grpc::client::Upstream;
use crate::grpc::tls::{Tls, TlsConfig};
use crate::keys::Keys;
use crate::redis_client::{RedisClient, RedisConfig};
use crate::Handles;

/// Where the services answer that every service calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthUpstream {
    /// auth-service: `http://host:port`, or several separated by commas; a name stands for every address that it
    /// resolves to. auth-service itself needs none.
    pub auth: String,
}

/// The settings of a service that are not its own.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Name of the service.
    pub name: &'static str,
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
    /// Where live connections are poked; used by notify-service.
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
        problems.extend(nested("tls", self.tls));
        problems.extend(nested("rabbitmq", self.rabbitmq));
        if !self.redis.url.is_empty() {
            problems.extend(nested("redis", self.redis));
        }
        problems
    }

    /// Opens all of it. The broker and Redis may be away; keys must be there.
    ///
    /// # Errors
    /// When a key or certificate is missing, an address is wrong, or the port is taken.
    pub async fn open(&self, stage: &Stage) -> anyhow::Result<(TcpListener, SocketAddr, Handles)> {
        let tls = Tls::load(self.tls)?;
        let identity = match self.services.auth.as_str() {
            "" => Upstream::default(),
            text => Upstream::parse(text, tls.as_ref())
                .map_err(|problem| anyhow::anyhow!("services.auth {problem}"))?,
        };
        let keys = Keys::load(self.keys_dir)?;
        let bus: Arc<dyn EventBus> =
            RabbitMqBus::start(self.rabbitmq, self.name, &stage.health, &stage.tasks)?;
        let fanout: Arc<dyn Fanout> = if self.redis.url.is_empty() {
            Arc::new(MemoryFanout::default())
        } else {
            let client = RedisClient::new(self.redis)?;
            Arc::new(RedisFanout::start(client, &stage.tasks))
        };
        let listener = TcpListener::bind(self.grpc_listen)
            .await
            .with_context(|| format!("cannot listen on {} for calls", self.grpc_listen))?;
        let address = listener.local_addr()?;
        let handles = Handles {
            clock: stage.clock.clone(),
            bus,
            fanout,
            keys: Arc::new(keys),
            tasks: stage.tasks.clone(),
            health: stage.health.clone(),
            tls,
            identity,
        };
        Ok((listener, address, handles))
    }
}
