//! The gateway as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use gateway::{GatewayConfig, Upstreams};
use platform::Handles;
use platform::config::{Problem, Validate, nested};
use platform::event_bus::InProcessBus;
use platform::fanout::MemoryFanout;
use platform::grpc::client::Upstream;
use platform::grpc::tls::{Tls, TlsConfig};
use platform::keys::Keys;
use platform::process::{
    MetricsConfig, Program, ProgramSettings, ShutdownConfig, Stage, is_address,
};
use platform::rate_limit::RedisRateLimitStore;
use platform::redis_client::{RedisClient, RedisConfig};
use platform::telemetry::TelemetryConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// Settings of the gateway as a process of its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Address and port of the public API.
    http_listen: String,
    /// Folder of the secrets that services share; `coffer keys create` makes them.
    keys_dir: PathBuf,
    /// Where the services answer.
    services: ServiceUrls,
    /// The port for those who watch.
    metrics: MetricsConfig,
    /// TLS between services.
    tls: TlsConfig,
    /// How the process ends.
    shutdown: ShutdownConfig,
    /// Logs and traces.
    telemetry: TelemetryConfig,
    /// Where all gateways count requests together.
    redis: RedisConfig,
    /// The public door.
    gateway: GatewayConfig,
}

/// Where the services answer: `http://host:port`, or several separated by commas; a name stands for every address that
/// it resolves to.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ServiceUrls {
    /// auth-service.
    auth: String,
    /// wallet-service.
    wallet: String,
    /// notify-service.
    notify: String,
    /// scheduler-service.
    scheduler: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http_listen: "127.0.0.1:8080".to_owned(),
            keys_dir: "keys".into(),
            services: ServiceUrls::default(),
            metrics: MetricsConfig::default(),
            tls: TlsConfig::default(),
            shutdown: ShutdownConfig::default(),
            telemetry: TelemetryConfig::default(),
            redis: RedisConfig::default(),
            gateway: GatewayConfig::default(),
        }
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !is_address(&self.http_listen) {
            let message = "must be an address and a port, e.g. 0.0.0.0:8080";
            problems.push(Problem::new("http_listen", message));
        }
        for (url, name) in [
            (&self.services.auth, "auth"),
            (&self.services.wallet, "wallet"),
            (&self.services.notify, "notify"),
            (&self.services.scheduler, "scheduler"),
        ] {
            let key = format!("services.{name}");
            if url.is_empty() {
                let message = format!("must be set, e.g. http://{name}-service:50051");
                problems.push(Problem::new(key, message));
            } else if let Some(message) = Upstream::problem(url, self.tls.is_on()) {
                problems.push(Problem::new(key, message));
            }
        }
        problems.extend(nested("metrics", &self.metrics));
        problems.extend(nested("tls", &self.tls));
        problems.extend(nested("shutdown", &self.shutdown));
        problems.extend(nested("telemetry", &self.telemetry));
        problems.extend(nested("redis", &self.redis));
        problems.extend(nested("gateway", &self.gateway));
        problems
    }
}

impl ProgramSettings for Settings {
    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn metrics(&self) -> &MetricsConfig {
        &self.metrics
    }

    fn shutdown(&self) -> &ShutdownConfig {
        &self.shutdown
    }
}

impl Program for Settings {
    const NAME: &'static str = "gateway";

    async fn start(self, stage: &Stage) -> anyhow::Result<SocketAddr> {
        let tls = Tls::load(&self.tls)?;
        let upstream = |text: &str, key: &str| {
            Upstream::parse(text, tls.as_ref())
                .map_err(|problem| anyhow::anyhow!("services.{key} {problem}"))
        };
        let upstreams = Upstreams {
            auth: upstream(&self.services.auth, "auth")?,
            wallet: upstream(&self.services.wallet, "wallet")?,
            notify: upstream(&self.services.notify, "notify")?,
            scheduler: upstream(&self.services.scheduler, "scheduler")?,
        };
        let keys = Keys::load(&self.keys_dir)?;
        let redis = RedisClient::start(&self.redis, &stage.tasks)?;
        let asked = redis.clone();
        stage.watch("redis", move || asked.is_connected());
        let listener = TcpListener::bind(&self.http_listen)
            .await
            .with_context(|| format!("cannot listen on {} for HTTP", self.http_listen))?;
        let address = listener.local_addr()?;
        let handles = Handles {
            clock: stage.clock.clone(),
            // The gateway tells no facts and pokes nobody.
            bus: Arc::new(InProcessBus::default()),
            fanout: Arc::new(MemoryFanout::default()),
            keys: Arc::new(keys),
            tasks: stage.tasks.clone(),
            health: stage.health.clone(),
            tls,
            identity: upstreams.auth.clone(),
        };
        let limits = Arc::new(RedisRateLimitStore::new(redis));
        gateway::run(self.gateway, listener, upstreams, limits, handles).await?;
        stage.health.tell(Self::NAME, true);
        Ok(address)
    }
}

fn main() -> ExitCode {
    platform::process::main::<Settings>()
}
