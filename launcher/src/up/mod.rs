//! Everything in one process: the composition root of the embedded profile.

mod banner;
mod data_dir;
mod opening_bus;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use platform::clock::SystemClock;
use platform::config::Profile;
use platform::event_bus::InProcessBus;
use platform::fanout::MemoryFanout;
use platform::health::Health;
use platform::keys::Keys;
use platform::process::{self, Signals};
use platform::rate_limit::MemoryRateLimitStore;
use platform::{Handles, SharedClock, Tasks};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::client::Api;
use crate::config::Config;
pub use data_dir::DataDir;
use opening_bus::OpeningBus;

/// Longest time from the last service's start to the first answer.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// Requests under way may finish within this time.
const EDGE_GRACE: Duration = Duration::from_secs(10);
/// Then the services may finish theirs.
const SERVICE_GRACE: Duration = Duration::from_secs(5);

/// What stands in for the world outside until there are adapters for the real thing.
const STAND_INS: [&str; 3] = [
    "deposits come from the sandbox source, which gives to everybody",
    "SMS go to the simulator",
    "mails are written to a folder",
];

/// The product, ready to serve.
pub struct Running {
    address: SocketAddr,
    config: Config,
    notify: http::Uri,
    /// Tasks of the gateway, which stops first, so that what it has let in still finds the services.
    edge: Tasks,
    services: Tasks,
    _data_dir: DataDir,
}

impl Running {
    /// Where the API is, e.g. `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where notify-service answers gRPC; for this machine only.
    pub fn notify(&self) -> &http::Uri {
        &self.notify
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Waits until a part has ended without which the product is of no use, and gives its name.
    pub async fn failed(&self) -> String {
        tokio::select! {
            name = self.edge.failed() => name,
            name = self.services.failed() => name,
        }
    }

    /// Stops taking requests, finishes those under way, then stops the services: within 15 seconds. Gives the
    /// names of the tasks that did not end by themselves.
    pub async fn stop(self) -> Vec<String> {
        let mut left = self.edge.shutdown(EDGE_GRACE).await;
        left.extend(self.services.shutdown(SERVICE_GRACE).await);
        left
    }
}

/// Starts the product, says where it is, and serves until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let began = Instant::now();
    // Before anything else, so that a signal that comes during the start is not lost.
    let mut signals = Signals::listen()?;
    let running = tokio::select! {
        running = start(config, SystemClock::shared()) => running?,
        () = signals.next() => return Ok(()),
    };
    banner::show(&running, began.elapsed())?;
    let broken = tokio::select! {
        () = signals.next() => None,
        name = running.failed() => Some(name),
    };
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        _ = running.stop() => {}
        () = signals.next() => bail!("stopped before everything had ended"),
    }
    match broken {
        None => Ok(()),
        // Nothing is lost: a supervisor starts the product anew, and it goes on where it stopped.
        Some(name) => bail!("{name} ended unexpectedly; start again"),
    }
}

/// Starts everything and waits until it is ready to serve.
///
/// # Errors
/// When another process uses the data folder, the port is taken, or a part does not start.
pub async fn start(config: Config, clock: SharedClock) -> anyhow::Result<Running> {
    let data_dir = DataDir::lock(&config.data_dir)?;
    if Profile::of_process() == Profile::Production {
        for stand_in in STAND_INS {
            tracing::warn!("production runs on a stand-in: {stand_in}");
        }
    }
    let (http, address) = bind_http(&config.http_listen).await?;
    let health = Health::default();
    let keys = Keys::load_or_create(&config.keys_dir())?;
    let (auth, auth_uri) = bind_loopback().await?;
    let (wallet, wallet_uri) = bind_loopback().await?;
    let (notify, notify_uri) = bind_loopback().await?;
    let (scheduler, scheduler_uri) = bind_loopback().await?;

    let bus = Arc::new(OpeningBus::new(Arc::new(InProcessBus::default())));
    let handles = Handles {
        clock: Arc::clone(&clock),
        bus: Arc::clone(&bus) as _,
        fanout: Arc::new(MemoryFanout::default()),
        keys: Arc::new(keys),
        tasks: Tasks::new(),
        health: health.clone(),
        tls: None,
        identity: auth_uri.clone().into(),
    };
    let edge = Handles {
        tasks: Tasks::new(),
        ..handles.clone()
    };
    let running = Running {
        address,
        config: config.clone(),
        notify: notify_uri.clone(),
        edge: edge.tasks.clone(),
        services: handles.tasks.clone(),
        _data_dir: data_dir,
    };

    auth_service::run(config.auth, auth, handles.clone())
        .await
        .context("auth-service")?;
    wallet_service::run(config.wallet, wallet, handles.clone())
        .await
        .context("wallet-service")?;
    notify_service::run(config.notify, notify, handles.clone())
        .await
        .context("notify-service")?;
    scheduler_service::run(config.scheduler, scheduler, handles)
        .await
        .context("scheduler-service")?;
    bus.open();
    process::serve_metrics(&config.metrics, &health, &running.services).await?;
    let upstreams = gateway::Upstreams {
        auth: auth_uri.into(),
        wallet: wallet_uri.into(),
        notify: notify_uri.into(),
        scheduler: scheduler_uri.into(),
    };
    let limits = Arc::new(MemoryRateLimitStore::new(clock));
    gateway::run(config.gateway, http, upstreams, limits, edge)
        .await
        .context("gateway")?;
    wait_until_ready(&running.url()).await?;
    Ok(running)
}

async fn bind_http(listen: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!(
            "cannot listen on {listen} for HTTP (COFFER_HTTP_LISTEN chooses another address, e.g. \
             COFFER_HTTP_LISTEN=127.0.0.1:8090)"
        )
    })?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A listener on a port of the system's choice, which only this machine reaches.
async fn bind_loopback() -> anyhow::Result<(TcpListener, http::Uri)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("loopback")?;
    let uri = format!("http://{}", listener.local_addr()?).parse()?;
    Ok((listener, uri))
}

async fn wait_until_ready(url: &str) -> anyhow::Result<()> {
    let api = Api::new(url)?;
    let until = Instant::now() + READY_PATIENCE;
    let mut pause = Duration::from_millis(5);
    loop {
        match api.ready().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= until => {
                return Err(error).context("the product did not become ready");
            }
            Err(_) => sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
