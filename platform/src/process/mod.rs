//! A service as a process of its own: its command line, its start, its port for those who watch, and its end.

mod admin;
mod commands;
mod service;
mod settings;
mod signals;

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use admin::{MetricsConfig, serve as serve_metrics};
pub use service::{AuthUpstream, Needs, Surroundings};
pub use signals::Signals;

use crate::clock::SystemClock;
use crate::config::{Problem, Validate};
use crate::database::Direction;
use crate::health::Health;
use crate::telemetry::TelemetryConfig;
use crate::{SharedClock, Tasks, config, telemetry};

/// How often it is looked whether servers are there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a process ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownConfig {
    /// After the signal to stop: how long the process still serves while it tells that it is not ready, in
    /// milliseconds, so that balancers can turn away from it.
    pub drain_ms: u64,
    /// How long what is under way may then take to finish, in milliseconds.
    pub grace_ms: u64,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            drain_ms: 1_000,
            grace_ms: 30_000,
        }
    }
}

impl Validate for ShutdownConfig {
    fn validate(&self) -> Vec<Problem> {
        [("drain_ms", self.drain_ms), ("grace_ms", self.grace_ms)]
            .into_iter()
            .filter(|(_, value)| *value > 600_000)
            .map(|(key, _)| Problem::new(key, "must be at most 600000 (ten minutes)"))
            .collect()
    }
}

/// What a program is started with.
#[derive(Clone)]
pub struct Stage {
    /// Tells the time.
    pub clock: SharedClock,
    /// Owner of every background task.
    pub tasks: Tasks,
    /// Where parts tell their state.
    pub health: Health,
}

impl Stage {
    /// Tells again and again whether a server is there that may be away for a while.
    pub fn watch(&self, server: &'static str, is_connected: impl Fn() -> bool + Send + 'static) {
        let (health, token) = (self.health.clone(), self.tasks.token());
        self.tasks.spawn(format!("{server}-health"), async move {
            let mut every = tokio::time::interval(LOOK_EVERY);
            while token.run_until_cancelled(every.tick()).await.is_some() {
                health.tell_in_passing(server, is_connected());
            }
        });
    }
}

/// What the settings of every program have.
pub trait ProgramSettings:
    Default + Serialize + DeserializeOwned + JsonSchema + Validate + Send + Sync + 'static
{
    /// Logs and traces.
    fn telemetry(&self) -> &TelemetryConfig;

    /// The port for those who watch.
    fn metrics(&self) -> &MetricsConfig;

    /// How it ends.
    fn shutdown(&self) -> &ShutdownConfig;
}

/// The settings of a program are the program: they know how to start it.
pub trait Program: ProgramSettings {
    /// Name of the program, e.g. `wallet-service`.
    const NAME: &'static str;

    /// Starts everything in tasks of `stage`; returns the address on which it answers, once it does.
    fn start(self, stage: &Stage) -> impl Future<Output = anyhow::Result<SocketAddr>> + Send;

    /// Moves the schema and tells what holds afterwards.
    fn migrate(&self, direction: Direction) -> impl Future<Output = anyhow::Result<String>> + Send {
        let _ = direction;
        async { bail!("{} has no database", Self::NAME) }
    }

    /// Delivers the dead letters once more; returns how many were taken.
    fn redrive(self, stage: &Stage) -> impl Future<Output = anyhow::Result<u64>> + Send {
        let _ = stage;
        async { bail!("{} takes no events", Self::NAME) }
    }
}

/// The `main` of a program.
pub fn main<P: Program>() -> ExitCode {
    commands::Args::of_process(P::NAME).run::<P>()
}

/// Serves until it is told to stop.
async fn run<P: Program>(settings: P) -> anyhow::Result<()> {
    let began = Instant::now();
    let _telemetry = telemetry::init(settings.telemetry(), P::NAME)?;
    // Before anything else, so that a signal that comes during the start is not lost.
    let mut signals = Signals::listen()?;
    tracing::info!(settings = config::masked(&settings), "starting");
    let stage = Stage {
        clock: SystemClock::shared(),
        tasks: Tasks::new(),
        health: Health::default(),
    };
    let end = settings.shutdown().clone();
    let metrics = admin::serve(settings.metrics(), &stage.health, &stage.tasks).await?;
    let started = tokio::select! {
        started = settings.start(&stage) => started,
        () = signals.next() => {
            tracing::info!("told to stop during the start");
            return Ok(());
        }
    };
    let address = match started {
        Ok(address) => address,
        Err(error) => {
            // What was started ends because of us, and not by itself.
            stage.tasks.token().cancel();
            return Err(error);
        }
    };
    let ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let metrics = metrics.map(|address| address.to_string());
    tracing::info!(%address, metrics, ready_ms, "{} is ready", P::NAME);

    let broken = tokio::select! {
        () = signals.next() => None,
        name = stage.tasks.failed() => Some(name),
    };
    stage.health.drain();
    let left = tokio::select! {
        left = stop(&stage, &end, broken.is_some()) => left,
        () = signals.next() => bail!("stopped before everything had ended"),
    };
    match broken {
        None if !left.is_empty() => bail!("did not end in time: {}", left.join(", ")),
        None => Ok(()),
        // Nothing is lost: a supervisor starts the process anew, and it goes on where it stopped.
        Some(name) => bail!("{name} ended unexpectedly"),
    }
}

async fn stop(stage: &Stage, end: &ShutdownConfig, at_once: bool) -> Vec<String> {
    if !at_once {
        tracing::info!(
            drain_ms = end.drain_ms,
            "draining; a second signal stops at once"
        );
        tokio::time::sleep(Duration::from_millis(end.drain_ms)).await;
    }
    let left = stage
        .tasks
        .shutdown(Duration::from_millis(end.grace_ms))
        .await;
    tracing::info!(unfinished = left.len(), "stopped");
    left
}

/// A host, which is looked up when the port is bound, and a port.
pub fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
