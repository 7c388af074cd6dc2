//! The port for those who watch a process: metrics, and whether it lives and is ready. Not for the public.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::config::{Problem, Validate};
use crate::health::{Health, Part};
use crate::{Tasks, metrics};

/// The port for those who watch this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address and port of `/metrics` (Prometheus), `/health/live` and `/health/ready`. Empty: there is none.
    pub listen: String,
}

impl Validate for MetricsConfig {
    fn validate(&self) -> Vec<Problem> {
        let sound = self.listen.is_empty() || super::is_address(&self.listen);
        let message = "must be an address and a port, e.g. 0.0.0.0:9464, or empty";
        (!sound)
            .then(|| Problem::new("listen", message))
            .into_iter()
            .collect()
    }
}

#[derive(Clone)]
struct Watched {
    recorded: PrometheusHandle,
    health: Health,
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    parts: BTreeMap<String, Part>,
}

/// Serves the port until `tasks` end; gives its address, or `None` where it is switched off.
///
/// # Errors
/// When the port is taken.
pub async fn serve(
    config: &MetricsConfig,
    health: &Health,
    tasks: &Tasks,
) -> anyhow::Result<Option<SocketAddr>> {
    if config.listen.is_empty() {
        return Ok(None);
    }
    let listener = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on {} for metrics", config.listen))?;
    let address = listener.local_addr()?;
    let recorded = metrics::install()?;
    let (upkeep, token) = (recorded.clone(), tasks.token());
    tasks.spawn("metrics-upkeep", async move {
        let mut every = tokio::time::interval(metrics::UPKEEP_EVERY);
        while token.run_until_cancelled(every.tick()).await.is_some() {
            upkeep.run_upkeep();
        }
    });
    let watched = Watched {
        recorded,
        health: health.clone(),
    };
    let router = Router::new()
        .route("/metrics", get(exposition))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(watched);
    let token = tasks.token();
    tasks.spawn_critical("metrics", async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(token.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the port for metrics ended");
        }
    });
    Ok(Some(address))
}

async fn exposition(State(watched): State<Watched>) -> impl IntoResponse {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], watched.recorded.render())
}

async fn live() -> impl IntoResponse {
    axum::Json(serde_json::json!({"status": "live"}))
}

async fn ready(State(watched): State<Watched>) -> impl IntoResponse {
    let (code, status) = if watched.health.is_ready() {
        (StatusCode::OK, "ready")
    } else if watched.health.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let parts = watched.health.parts();
    (code, axum::Json(Report { status, parts }))
}
