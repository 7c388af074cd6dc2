//! The gRPC server of every service.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Service;
use tracing::{Instrument, Span, field};

use super::tls::Tls;
use super::{
    CONNECTION_WINDOW, CURRENT_DEADLINE, DEFAULT_DEADLINE, Deadline, deadline_exceeded, timeout,
};
use crate::database::Database;
use crate::health::Health;
use crate::principal::{Authenticator, token_missing};
use crate::revocation::{Freshness, Revocations};
use crate::shutdown::panic_text;
use crate::{Error, Handles, Tasks, metrics};

/// Calls that take longer than this are marked in the log.
const SLOW: Duration = Duration::from_secs(1);
/// A caller that does not answer a ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// A gateway carries every call and every open stream of its clients over one connection; hyper's 200 would starve it.
const MOST_STREAMS: u32 = 100_000;
/// We answer this much before the caller gives up, so that the answer still arrives.
const HEAD_START: Duration = Duration::from_millis(5);
/// How often the database is asked whether it answers, and how long it may take.
const HEALTH_EVERY: Duration = Duration::from_secs(2);
const HEALTH_PATIENCE: Duration = Duration::from_secs(2);
/// How often a server that has just started looks whether it knows of revoked sessions.
const FRESH_EVERY: Duration = Duration::from_millis(10);

/// Serves gRPC with what every service needs: callers are authenticated, traces continued, deadlines kept, panics
/// caught, and health told.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    authenticator: Authenticator,
    database: Option<Database>,
    health: Health,
    tls: Option<Tls>,
}

impl Server {
    /// For the service of this name, e.g. `wallet-service`.
    pub fn new(name: &'static str, authenticator: Authenticator) -> Self {
        Self {
            name,
            authenticator,
            database: None,
            health: Health::default(),
            tls: None,
        }
    }

    /// Tells its health to the process and drains with it, and speaks TLS where the process does.
    #[must_use]
    pub fn of_process(mut self, handles: &Handles) -> Self {
        self.health = handles.health.clone();
        self.tls = handles.tls.clone();
        self
    }

    /// Health follows this database: not serving while it does not answer.
    #[must_use]
    pub fn with_database(mut self, database: &Database) -> Self {
        self.database = Some(database.clone());
        self
    }

    /// Serves `routes` in a task until the tasks are told to end; then no new call is taken and the running
    /// ones are waited for. Open streams should listen to [`Tasks::token`] themselves. Callers are told to go elsewhere
    /// as soon as the process drains.
    pub fn serve(self, listener: TcpListener, routes: Routes, tasks: &Tasks) {
        let token = tasks.token();
        let (mut reporter, health) = tonic_health::server::health_reporter();
        let revocations = self.authenticator.revocations.clone();
        let front = Front {
            routes: with_reflection(routes.add_service(health)).prepare(),
            name: self.name,
            authenticator: self.authenticator,
        };
        self.health.tell(self.name, false);
        let follower = HealthFollower {
            name: self.name,
            database: self.database,
            reporter: reporter.clone(),
            health: self.health,
            revocations,
        };
        let follow = token.clone().run_until_cancelled_owned(follower.run());
        let owner = tasks.clone();
        let tls = self.tls.as_ref().map(Tls::server);
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(Duration::from_secs(60)));
        tasks.spawn_critical(format!("{}-grpc", self.name), async move {
            for service in ["", self.name] {
                reporter
                    .set_service_status(service, ServingStatus::NotServing)
                    .await;
            }
            owner.spawn(format!("{}-health", self.name), async move {
                follow.await;
            });
            let told_to_end = async move {
                token.cancelled().await;
                // Ends the streams of those who watch our health, which would else be waited for.
                for service in ["", self.name] {
                    reporter
                        .set_service_status(service, ServingStatus::NotServing)
                        .await;
                    reporter.clear_service_status(service).await;
                }
            };
            let mut server = tonic::transport::Server::builder();
            if let Some(tls) = tls {
                server = match server.tls_config(tls) {
                    Ok(server) => server,
                    Err(error) => {
                        tracing::error!(service = self.name, %error, "TLS between services cannot be used");
                        return;
                    }
                };
            }
            let served = server
                .http2_keepalive_interval(Some(KEEPALIVE))
                .http2_keepalive_timeout(Some(KEEPALIVE))
                .max_concurrent_streams(MOST_STREAMS)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .serve_with_incoming_shutdown(front, incoming, told_to_end)
                .await;
            if let Err(error) = served {
                tracing::error!(service = self.name, %error, "the gRPC server ended");
            }
        });
    }
}

/// Adds what tools such as grpcurl ask to learn the contracts.
fn with_reflection(routes: Routes) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "the contracts cannot be told by reflection");
            routes
        }
    }
}

/// Tells whether the service can work: as long as its database answers and no end is near.
struct HealthFollower {
    name: &'static str,
    database: Option<Database>,
    reporter: HealthReporter,
    health: Health,
    revocations: Revocations,
}

impl HealthFollower {
    async fn run(self) {
        tokio::select! {
            () = self.follow_database() => {}
            () = self.health.drained() => self.tell(false).await,
        }
    }

    async fn follow_database(&self) {
        // Until it knows which sessions have ended it could only refuse.
        while self.revocations.freshness() != Freshness::Fresh {
            tokio::time::sleep(FRESH_EVERY).await;
        }
        self.health.tell(self.name, true);
        self.tell(true).await;
        let mut told = true;
        loop {
            tokio::time::sleep(HEALTH_EVERY).await;
            let Some(database) = &self.database else {
                continue;
            };
            database.record_connections();
            let answer = tokio::time::timeout(HEALTH_PATIENCE, database.ping()).await;
            let serving = matches!(answer, Ok(Ok(())));
            if serving != told {
                told = serving;
                self.health.tell(self.name, serving);
                self.tell(serving).await;
            }
        }
    }

    async fn tell(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", self.name] {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

/// Stands before the routes and sees every call.
#[derive(Clone)]
struct Front {
    routes: Routes,
    name: &'static str,
    authenticator: Authenticator,
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fresh = self.routes.clone();
        let routes = std::mem::replace(&mut self.routes, fresh);
        if is_public(request.uri().path()) {
            return Box::pin(call(routes, request));
        }
        let span = span_of(self.name, &request);
        let authenticator = self.authenticator.clone();
        let call = guarded(routes, self.name, request, authenticator, span.clone());
        Box::pin(call.instrument(span))
    }
}

/// Health and reflection are asked by those who have no token.
fn is_public(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.") || path.starts_with("/grpc.reflection.")
}

fn span_of(service: &str, request: &Request<Body>) -> Span {
    let path = request.uri().path();
    let (package, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or(("", path));
    let span = tracing::info_span!(
        "call",
        otel.name = format!("{service}.{method}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        rpc.system = "grpc",
        rpc.service = package,
        rpc.method = method,
        rpc.grpc.status_code = field::Empty,
        user.id = field::Empty,
        caller = field::Empty,
    );
    if let Some(Ok(parent)) = request
        .headers()
        .get("traceparent")
        .map(|value| value.to_str())
    {
        crate::telemetry::set_parent(&span, parent);
    }
    span
}

async fn guarded(
    routes: Routes,
    name: &'static str,
    mut request: Request<Body>,
    authenticator: Authenticator,
    span: Span,
) -> Result<Response<Body>, Infallible> {
    let start = Instant::now();
    let path = request.uri().path();
    let method = path.rsplit('/').next().unwrap_or_default().to_owned();
    let asked = timeout::read(request.headers()).unwrap_or(DEFAULT_DEADLINE);
    // Nobody waits for a year; the cap keeps hostile values away from the arithmetic of times.
    let allowed = asked
        .min(Duration::from_secs(3600))
        .saturating_sub(HEAD_START);
    let deadline = Deadline(start + allowed);

    let response = match admit(&mut request, &authenticator, &span) {
        Err(refusal) => Status::from(refusal).into_http(),
        Ok(()) => {
            request.extensions_mut().insert(deadline);
            let answer = CURRENT_DEADLINE.scope(deadline, call(routes, request));
            match tokio::time::timeout_at(deadline.0, answer).await {
                Ok(Ok(response)) => response,
                Err(_) => Status::from(deadline_exceeded()).into_http(),
            }
        }
    };
    let code = record(&span, &response, start.elapsed());
    // What no service has is counted as one, lest a stranger fill the memory with names.
    let method = match code {
        tonic::Code::Unimplemented | tonic::Code::Unauthenticated => "other",
        _ => method.as_str(),
    };
    metrics::rpc_answered(name, method, code as i32, start.elapsed());
    Ok(response)
}

/// Authenticates the caller and puts what is known of it into the extensions.
fn admit(
    request: &mut Request<Body>,
    authenticator: &Authenticator,
    span: &Span,
) -> Result<(), Error> {
    let caller = authenticator.authenticate(bearer(request.headers())?)?;
    match &caller {
        crate::principal::Caller::User(principal) => {
            span.record("user.id", field::display(principal.user_id));
        }
        crate::principal::Caller::Service(name) => {
            span.record("caller", name);
        }
    }
    request.extensions_mut().insert(caller);
    request
        .extensions_mut()
        .insert(authenticator.revocations.freshness());
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| token_missing()),
        _ => Err(token_missing()),
    }
}

/// The answer of the routes; a panic on the way becomes an internal error that tells nothing.
async fn call(mut routes: Routes, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let answer = async move { Service::call(&mut routes, request).await };
    AssertUnwindSafe(answer)
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| {
            let error =
                Error::internal(anyhow::anyhow!("a call panicked: {}", panic_text(&*panic)));
            Ok(Status::from(error).into_http())
        })
}

fn record(span: &Span, response: &Response<Body>, took: Duration) -> tonic::Code {
    let code = Status::from_header_map(response.headers()).map_or(tonic::Code::Ok, |s| s.code());
    span.record("rpc.grpc.status_code", code as i32);
    if is_fault(code) {
        span.record("otel.status_code", "ERROR");
    }
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if took > SLOW {
        tracing::warn!(duration_ms, rpc.grpc.status_code = code as i32, "slow call");
    } else {
        tracing::debug!(
            duration_ms,
            rpc.grpc.status_code = code as i32,
            "call answered"
        );
    }
    code
}

fn is_fault(code: tonic::Code) -> bool {
    use tonic::Code;
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
