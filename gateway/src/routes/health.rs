//! Whether the gateway lives, and whether it can be sent requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use platform::grpc::client::GrpcChannel;
use platform::revocation::Freshness;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::clients::SERVICES;

/// How long a report is kept that says that something is missing.
const UNREADY_FRESH_FOR: Duration = Duration::from_millis(20);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(live))
        .routes(routes!(ready))
}

/// The last report and when it was made; anybody may ask, so the services are not asked each time.
#[derive(Default)]
pub(crate) struct Readiness {
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
struct Alive {
    /// Always `live`.
    #[schema(example = "live")]
    status: &'static str,
}

/// Whether the gateway can be sent requests.
#[derive(Debug, Serialize, ToSchema)]
struct Report {
    /// `ready`, `degraded` (something that is not critical is down) or `unavailable`.
    #[schema(example = "ready")]
    status: &'static str,
    /// By name.
    dependencies: BTreeMap<&'static str, Dependency>,
}

/// Something that the gateway needs.
#[derive(Debug, Serialize, ToSchema)]
struct Dependency {
    /// Services: `up` or `down`. `revocations` (news of ended sessions): `fresh`, `stale` or `lost`.
    #[schema(example = "up")]
    state: &'static str,
    /// Whether the gateway is not ready without it. What is not critical costs only its own routes.
    critical: bool,
    /// Time that it took to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.8)]
    latency_ms: Option<f64>,
}

impl Dependency {
    fn is_good(&self) -> bool {
        matches!(self.state, "up" | "fresh" | "stale")
    }
}

/// Whether the process answers.
#[utoipa::path(get, path = "/health/live", tag = "health",
    responses((status = 200, description = "It does", body = Alive)))]
async fn live() -> axum::Json<Alive> {
    axum::Json(Alive { status: "live" })
}

/// Whether the gateway can be sent requests, with each thing that it needs.
#[utoipa::path(get, path = "/health/ready", tag = "health",
    responses((status = 200, description = "It can, perhaps not to all routes", body = Report),
        (status = 503, description = "Something critical is down, or the process is about to end", body = Report)))]
async fn ready(State(app): State<App>) -> Response {
    let report = app.caches.readiness.report(&app).await;
    let status = match report.status {
        _ if app.health.is_draining() => StatusCode::SERVICE_UNAVAILABLE,
        "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    let mut response =
        (status, [(CACHE_CONTROL, "no-store")], axum::Json(&*report)).into_response();
    // A report is an answer of its own and no problem document.
    response.extensions_mut().insert(crate::error::AsItIs);
    response
}

impl Readiness {
    async fn report(&self, app: &App) -> Arc<Report> {
        let fresh_for = Duration::from_millis(app.config.health.cache_ms);
        // Held while the services are asked: those who come meanwhile get the same report.
        let mut last = self.last.lock().await;
        // Who waits for us to become ready hears of it at once.
        let keep = |report: &Report| match report.status {
            "ready" => fresh_for,
            _ => fresh_for.min(UNREADY_FRESH_FOR),
        };
        if let Some((made, report)) = &*last
            && made.elapsed() < keep(report)
        {
            return Arc::clone(report);
        }
        let report = Arc::new(look(app).await);
        *last = Some((Instant::now(), Arc::clone(&report)));
        report
    }
}

async fn look(app: &App) -> Report {
    let within = Duration::from_millis(app.config.health.timeout_ms);
    let asked = SERVICES
        .into_iter()
        .zip(app.clients.channels())
        .map(async |(name, channel)| {
            let start = Instant::now();
            let is_up = tokio::time::timeout(within, is_serving(channel.clone())).await == Ok(true);
            let dependency = Dependency {
                state: if is_up { "up" } else { "down" },
                critical: app
                    .config
                    .health
                    .critical
                    .iter()
                    .any(|critical| critical == name),
                latency_ms: Some((start.elapsed().as_secs_f64() * 1e6).round() / 1e3),
            };
            (name, dependency)
        });
    let mut dependencies: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
    let state = match app.door.authenticator.revocations.freshness() {
        Freshness::Fresh => "fresh",
        Freshness::Stale => "stale",
        Freshness::Lost => "lost",
    };
    let revocations = Dependency {
        state,
        critical: true,
        latency_ms: None,
    };
    dependencies.insert("revocations", revocations);

    let is_down = |critical: bool| {
        dependencies
            .values()
            .any(|one| one.critical == critical && !one.is_good())
    };
    let status = match (is_down(true), is_down(false)) {
        (true, _) => "unavailable",
        (false, true) => "degraded",
        (false, false) => "ready",
    };
    Report {
        status,
        dependencies,
    }
}

async fn is_serving(channel: GrpcChannel) -> bool {
    let request = HealthCheckRequest {
        service: String::new(),
    };
    HealthClient::new(channel)
        .check(request)
        .await
        .is_ok_and(|response| response.into_inner().status() == ServingStatus::Serving)
}
