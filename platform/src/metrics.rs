//! Metrics: rate, errors and duration of every route, method and queue, for Prometheus.
//!
//! Names follow the semantic conventions of OpenTelemetry where they have one, durations are in seconds. What is
//! recorded where no port for those who watch is open, goes nowhere and costs next to nothing.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the buckets of durations, in seconds: fine where the promises are.
const BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// How often what was recorded is put in order.
pub(crate) const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Records from now on. Every call gives the same recorder.
///
/// # Errors
/// When another library recorded first.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    static INSTALLED: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| error.to_string())?;
        describe();
        Ok(handle)
    });
    installed
        .clone()
        .map_err(|error| anyhow::anyhow!("metrics cannot be recorded: {error}"))
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(
        "http_server_request_duration_seconds",
        Unit::Seconds,
        "Time to answer a request, by method, route and status"
    );
    describe_histogram!(
        "rpc_server_duration_seconds",
        Unit::Seconds,
        "Time to answer a call, by service, method and code"
    );
    describe_counter!(
        "messaging_published_total",
        "Events handed to the bus, by outcome"
    );
    describe_counter!(
        "messaging_processed_total",
        "Events worked in, by queue and outcome"
    );
    describe_histogram!(
        "messaging_process_duration_seconds",
        Unit::Seconds,
        "Time to work in a batch of events, by queue"
    );
    describe_counter!(
        "messaging_retried_total",
        "Events put off for another try, by queue"
    );
    describe_counter!(
        "messaging_dead_lettered_total",
        "Events put among the dead letters, by queue"
    );
    describe_gauge!(
        "outbox_unsent",
        "Events that the bus has not confirmed yet, by service"
    );
    describe_gauge!(
        "dead_letters",
        "Dead letters that wait for somebody, by service"
    );
    describe_gauge!(
        "database_connections",
        "Connections of the pool, by database and state"
    );
}

/// A request was answered. `route` is the pattern, never the path.
pub fn http_answered(method: &str, route: &str, status: u16, took: Duration) {
    metrics::histogram!(
        "http_server_request_duration_seconds",
        "method" => method.to_owned(),
        "route" => route.to_owned(),
        "status" => status.to_string(),
    )
    .record(took.as_secs_f64());
}

/// A call was answered. `method` must be one that the service has.
pub(crate) fn rpc_answered(service: &'static str, method: &str, code: i32, took: Duration) {
    metrics::histogram!(
        "rpc_server_duration_seconds",
        "service" => service,
        "method" => method.to_owned(),
        "code" => code.to_string(),
    )
    .record(took.as_secs_f64());
}
