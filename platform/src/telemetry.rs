//! Logs, spans, and the trace that ties one request together across processes.

mod json;

use std::collections::HashMap;
use std::io::IsTerminal;

use anyhow::Context as _;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, TraceContextExt, TracerProvider};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, TracerProviderBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tonic::transport::ClientTlsConfig;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter};

use crate::config::{Problem, Validate};

/// The crates whose log lines and spans are ours.
const OURS: [&str; 8] = [
    "platform",
    "proto",
    "gateway",
    "auth_service",
    "wallet_service",
    "notify_service",
    "scheduler_service",
    "launcher",
];

/// Binaries with names of their own: the command, and the tests of each service.
const BINARIES: [&str; 2] = ["coffer", "it"];

/// Where telemetry goes and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// How much is logged: `error`, `warn`, `info`, `debug`, `trace` or `off` for Coffer's own code (dependencies log
    /// warnings only), or directives such as `warn,wallet_service=debug,sqlx=info`.
    pub level: String,
    /// How log lines look.
    pub format: Format,
    /// Where log lines go.
    pub output: Output,
    /// Where spans go (OTLP over gRPC), e.g. `http://localhost:4317`; with `https` the collector must show a certificate
    /// that the system trusts. Nowhere when absent.
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: Format::Text,
            output: Output::Stderr,
            otlp_endpoint: None,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The standard error stream.
    Stderr,
    /// The standard output stream.
    Stdout,
}

impl Validate for TelemetryConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(error) = log_filter(&self.level) {
            problems.push(Problem::new("level", error.to_string()));
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            let uri = endpoint.parse::<http::Uri>();
            let is_known = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https"));
            if !uri.is_ok_and(|uri| is_known(&uri)) {
                let message = "must be an http:// or https:// URL";
                problems.push(Problem::new("otlp_endpoint", message));
            }
        }
        problems
    }
}

/// Sends the remaining spans when it is dropped. Keep it until the process ends.
#[derive(Debug)]
#[must_use = "spans are lost when this is dropped early"]
pub struct Guard {
    provider: SdkTracerProvider,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nothing is left to tell it to.
        let _ = self.provider.shutdown();
    }
}

/// Installs logs and spans for this process; once. Trace ids are made even when spans go nowhere.
///
/// # Errors
/// When it was done before, or the endpoint for spans cannot be used. Needs a tokio runtime when there is one.
pub fn init(config: &TelemetryConfig, service: &str) -> anyhow::Result<Guard> {
    install(config, provider(config, service)?)
}

fn provider(config: &TelemetryConfig, service: &str) -> anyhow::Result<SdkTracerProvider> {
    let mut builder = provider_of(service);
    if let Some(endpoint) = &config.otlp_endpoint {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint);
        if endpoint.starts_with("https:") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
        }
        let exporter = exporter
            .build()
            .with_context(|| format!("spans cannot be sent to {endpoint}"))?;
        builder = builder.with_batch_exporter(exporter);
    }
    Ok(builder.build())
}

fn provider_of(service: &str) -> TracerProviderBuilder {
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .build();
    SdkTracerProvider::builder().with_resource(resource)
}

fn install(config: &TelemetryConfig, provider: SdkTracerProvider) -> anyhow::Result<Guard> {
    let (writer, is_terminal) = match config.output {
        Output::Stderr => (
            BoxMakeWriter::new(std::io::stderr),
            std::io::stderr().is_terminal(),
        ),
        Output::Stdout => (
            BoxMakeWriter::new(std::io::stdout),
            std::io::stdout().is_terminal(),
        ),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match config.format {
        Format::Text => lines.with_ansi(is_terminal).boxed(),
        Format::Json => lines.event_format(json::JsonLines).boxed(),
    };
    // Spans are made whatever is logged, else a calm log would tear the traces.
    let ours = filter::filter_fn(|metadata| {
        metadata.is_span() && *metadata.level() <= Level::INFO && is_ours(metadata.target())
    });
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("coffer"))
        .with_location(false)
        .with_threads(false)
        .with_filter(ours);
    tracing_subscriber::registry()
        .with(spans)
        .with(lines.with_filter(log_filter(&config.level)?))
        .try_init()
        .context("logs and spans were installed before")?;
    Ok(Guard { provider })
}

fn is_ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or(target);
    OURS.contains(&name) || BINARIES.contains(&name)
}

/// A single level is meant for our own crates; the others stay calm.
fn log_filter(level: &str) -> anyhow::Result<EnvFilter> {
    let directives = match level.trim().parse::<LevelFilter>() {
        Ok(level) => {
            let mut directives = level.min(LevelFilter::WARN).to_string();
            // Of a message that comes back it would log all that is in it, and it calls each closed connection an error.
            directives.push_str(",lapin=off");
            for name in OURS.iter().chain(&BINARIES) {
                directives.push_str(&format!(",{name}={level}"));
            }
            directives
        }
        Err(_) => level.trim().to_owned(),
    };
    // The filter would take a word that is no level for the name of a crate, and say nothing at all.
    for word in directives.split(',').map(str::trim) {
        anyhow::ensure!(
            word.contains('=') || word.parse::<LevelFilter>().is_ok(),
            "{word:?} is neither a log level nor of the form crate=level"
        );
    }
    EnvFilter::builder()
        .parse(&directives)
        .with_context(|| format!("{level:?} is not a log level"))
}

/// The trace of the current span as a W3C `traceparent`; `None` outside of any.
pub fn current_traceparent() -> Option<String> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let span: &SpanContext = span.span_context();
    span.is_valid().then(|| {
        let flags = span.trace_flags().to_u8() & 1;
        format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id())
    })
}

/// The id of the current trace, 32 hexadecimal digits; `None` outside of any.
pub fn current_trace_id() -> Option<String> {
    let context = tracing::Span::current().context();
    let trace = context.span().span_context().trace_id();
    (trace != opentelemetry::TraceId::INVALID).then(|| trace.to_string())
}

/// Whether the text is a W3C `traceparent`.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let carrier = HashMap::from([("traceparent".to_owned(), text.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    context.span().span_context().is_valid()
}

/// Continues the trace of a W3C `traceparent`. Only before the span is entered for the first time. Text that is no
/// `traceparent` is passed over: the span begins a trace of its own.
pub fn set_parent(span: &tracing::Span, traceparent: &str) {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // It fails when nothing listens to spans, and then there is nothing to continue.
        let _ = span.set_parent(context);
    }
}

/// Installs spans into memory for the tests of this process, and log lines from `warn` on. The first call installs;
/// all get the same exporter.
///
/// # Panics
/// When something else was installed before.
#[cfg(feature = "test-kit")]
pub fn init_with_exporter(service: &str) -> opentelemetry_sdk::trace::InMemorySpanExporter {
    use std::sync::OnceLock;
    static INSTALLED: OnceLock<(opentelemetry_sdk::trace::InMemorySpanExporter, Guard)> =
        OnceLock::new();
    let (exporter, _) = INSTALLED.get_or_init(|| {
        let exporter = opentelemetry_sdk::trace::InMemorySpanExporter::default();
        let provider = provider_of(service)
            .with_simple_exporter(exporter.clone())
            .build();
        let config = TelemetryConfig {
            level: "warn".to_owned(),
            ..TelemetryConfig::default()
        };
        let guard = install(&config, provider).expect("nothing else was installed before");
        (exporter, guard)
    });
    exporter.clone()
}

#[cfg(test)]
mod tests;
