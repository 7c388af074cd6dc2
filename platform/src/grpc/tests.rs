use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};
use uuid::Uuid;

use super::client::{self, GrpcChannel};
use super::server::Server;
use super::*;
use crate::Error;
use crate::clock::{Clock, SystemClock};
use crate::keys::Keys;
use crate::principal::{Authenticator, Caller};
use crate::revocation::{Freshness, Revocations};
use crate::shutdown::Tasks;
use crate::test_kit::Issuer;
use crate::token::{AUDIENCE, Claims, ISSUER, Role};

/// Answers with what the server let it know, in the header `answer`.
#[derive(Clone)]
struct Probe {
    next: Option<GrpcChannel>,
    waiting: Arc<AtomicU32>,
}

impl NamedService for Probe {
    const NAME: &'static str = "test.v1.Probe";
}

impl Service<Request<Body>> for Probe {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let next = self.next.clone();
        if request.uri().path().ends_with("/Never") {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        Box::pin(async move { Ok(answer(request, next).await) })
    }
}

async fn answer(request: Request<Body>, next: Option<GrpcChannel>) -> Response<Body> {
    let text = match request.uri().path().rsplit('/').next().unwrap() {
        "Who" => match request.extensions().get::<Caller>() {
            Some(Caller::User(user)) => format!("user {}", user.user_id),
            Some(Caller::Service(name)) => format!("service {name}"),
            None => "nobody".to_owned(),
        },
        "Freshness" => format!("{:?}", request.extensions().get::<Freshness>()),
        "Trace" => crate::telemetry::current_traceparent().unwrap_or_default(),
        "TimeLeft" => {
            let deadline = request.extensions().get::<Deadline>().unwrap();
            (deadline.0 - Instant::now()).as_millis().to_string()
        }
        "Next" => {
            let bearer = request.headers()["authorization"]
                .to_str()
                .unwrap()
                .to_owned();
            let reply = send(&next.unwrap(), "TimeLeft", &bearer, &[])
                .await
                .unwrap();
            reply.headers()["answer"].to_str().unwrap().to_owned()
        }
        "Panic" => panic!("the password is hunter2"),
        "Never" => std::future::pending().await,
        _ => return Status::unimplemented("").into_http(),
    };
    Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "0")
        .header("answer", text)
        .body(Body::empty())
        .unwrap()
}

struct Bench {
    tasks: Tasks,
    issuer: Issuer,
    authenticator: Authenticator,
    channel: GrpcChannel,
    /// Calls of `Never` that arrived.
    waiting: Arc<AtomicU32>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        Self::with(Revocations::source()).await
    }

    async fn with(revocations: Revocations) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let clock = SystemClock::shared();
        let authenticator = Authenticator::with_revocations(clock, &keys, revocations);
        let issuer = Issuer::new();
        authenticator.keys.update_from_jwks(&issuer.jwks()).unwrap();
        let tasks = Tasks::new();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let uri: http::Uri = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let channel = client::channel(uri);
        let waiting = Arc::<AtomicU32>::default();
        let (next, count) = (Some(channel.clone()), Arc::clone(&waiting));
        let routes = Routes::new(Probe {
            next,
            waiting: count,
        });
        Server::new("probe", authenticator.clone()).serve(listener, routes, &tasks);
        Self {
            tasks,
            issuer,
            authenticator,
            channel,
            waiting,
            _dir: dir,
        }
    }

    fn claims(&self) -> Claims {
        let now = SystemClock.now().as_second();
        Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: Uuid::from_u128(1),
            sid: Uuid::from_u128(2),
            role: Role::User,
            email_verified: true,
            gv: 0,
            iat: now,
            exp: now + 900,
            nbf: None,
            jti: Uuid::from_u128(3),
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.issuer.sign(&self.claims()))
    }

    async fn ask(&self, method: &str) -> Result<String, Error> {
        self.ask_with(method, &self.bearer(), &[]).await
    }

    async fn ask_with(
        &self,
        method: &str,
        bearer: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<String, Error> {
        let outcome = send(&self.channel, method, bearer, headers).await;
        let reply = outcome.map_err(|status| Error::from_status(&status))?;
        match Status::from_header_map(reply.headers()).filter(|s| s.code() != Code::Ok) {
            Some(status) => Err(Error::from_status(&status)),
            None => Ok(reply.headers()["answer"].to_str().unwrap().to_owned()),
        }
    }
}

async fn send(
    channel: &GrpcChannel,
    method: &str,
    bearer: &str,
    headers: &[(&'static str, &str)],
) -> Result<Response<Body>, Status> {
    let mut request = Request::post(format!("/test.v1.Probe/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if !bearer.is_empty() {
        request = request.header("authorization", bearer);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    channel
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
}

#[tokio::test]
async fn callers_are_known_to_the_service() {
    let bench = Bench::start().await;
    assert_eq!(
        bench.ask("Who").await.unwrap(),
        format!("user {}", Uuid::from_u128(1))
    );
    assert_eq!(bench.ask("Freshness").await.unwrap(), "Some(Fresh)");
    let token = bench
        .authenticator
        .service_tokens()
        .issue("gateway", SystemClock.now());
    let who = bench
        .ask_with("Who", &format!("Bearer {token}"), &[])
        .await
        .unwrap();
    assert_eq!(who, "service gateway");
}

#[tokio::test]
async fn nobody_gets_in_without_a_good_token() {
    let bench = Bench::start().await;
    let reason = async |bearer: &str| {
        bench
            .ask_with("Who", bearer, &[])
            .await
            .unwrap_err()
            .reason()
            .to_owned()
    };
    assert_eq!(reason("").await, "token_missing");
    assert_eq!(reason("Bearer x.y.z").await, "token_invalid");
    assert_eq!(reason("Basic dXNlcjpwYXNz").await, "token_invalid");
    let stranger = Issuer::new().sign(&bench.claims());
    assert_eq!(reason(&format!("Bearer {stranger}")).await, "token_invalid");
    let mut old = bench.claims();
    (old.iat, old.exp) = (old.iat - 1000, old.iat - 100);
    assert_eq!(reason(&bench.issuer.sign(&old)).await, "token_expired");
    let until = jiff::Timestamp::MAX;
    bench
        .authenticator
        .revocations
        .insert(bench.claims().sid, until);
    assert_eq!(reason(&bench.bearer()).await, "token_revoked");
    let two = [("authorization", "Bearer x")];
    assert_eq!(
        bench
            .ask_with("Who", &bench.bearer(), &two)
            .await
            .unwrap_err()
            .reason(),
        "token_missing"
    );
}

#[tokio::test]
async fn without_news_of_revocations_no_user_gets_in_but_services_do() {
    let bench = Bench::with(Revocations::new()).await;
    let refused = bench.ask("Who").await.unwrap_err();
    assert_eq!(refused.reason(), "revocation_state_unknown");
    assert_eq!(refused.kind(), crate::Kind::Unavailable);
    assert!(refused.retry_after().is_some());
    let token = bench
        .authenticator
        .service_tokens()
        .issue("gateway", SystemClock.now());
    assert!(
        bench
            .ask_with("Who", &format!("Bearer {token}"), &[])
            .await
            .is_ok()
    );
    assert!(bench.authenticator.require_fresh().is_err());
    bench.authenticator.revocations.heard();
    assert!(bench.ask("Who").await.is_ok());
}

#[tokio::test]
async fn a_panic_is_an_internal_error_that_tells_nothing() {
    let bench = Bench::start().await;
    let error = bench.ask("Panic").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (crate::Kind::Internal, "internal")
    );
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(bench.ask("Who").await.is_ok(), "the server goes on");
}

#[tokio::test]
async fn deadlines_are_kept_and_handed_on() {
    let bench = Bench::start().await;
    let left: u64 = bench.ask("TimeLeft").await.unwrap().parse().unwrap();
    assert!((5_000..=10_000).contains(&left), "{left}");
    let bearer = bench.bearer();
    let started = Instant::now();
    let error = bench
        .ask_with("Never", &bearer, &[("grpc-timeout", "200m")])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (crate::Kind::Timeout, "deadline_exceeded")
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    let left = bench
        .ask_with("Next", &bearer, &[("grpc-timeout", "3S")])
        .await
        .unwrap();
    assert!(left.parse::<u64>().unwrap() <= 3_000, "{left}");
    assert!(
        bench
            .ask_with("Who", &bearer, &[("grpc-timeout", "soon")])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn open_streams_do_not_starve_calls() {
    let bench = Bench::start().await;
    let bearer = bench.bearer();
    let waiting = (0..1000).map(|_| bench.ask_with("Never", &bearer, &[("grpc-timeout", "20S")]));
    let waiting = futures::future::join_all(waiting);
    tokio::select! {
        _ = waiting => panic!("they wait for nothing"),
        answer = async {
            crate::test_kit::eventually(Duration::from_secs(15), || async {
                bench.waiting.load(Ordering::SeqCst) == 1000
            })
            .await;
            bench.ask("Who").await
        } => assert!(answer.is_ok(), "{answer:?}"),
    }
}

#[tokio::test]
async fn traces_go_on_from_the_caller_to_the_service() {
    let exporter = crate::telemetry::init_with_exporter("platform");
    let bench = Bench::start().await;
    let span = tracing::info_span!("request");
    let (outer, inner) = {
        use tracing::Instrument;
        async {
            (
                crate::telemetry::current_traceparent().unwrap(),
                bench.ask("Trace").await.unwrap(),
            )
        }
        .instrument(span)
        .await
    };
    assert_eq!(outer[3..35], inner[3..35], "one trace");
    assert_ne!(outer[36..52], inner[36..52], "two spans");
    let names = crate::test_kit::eventually(Duration::from_secs(5), || async {
        let spans = exporter.get_finished_spans().unwrap();
        spans.into_iter().find(|span| {
            span.span_context.trace_id().to_string() == inner[3..35] && span.name == "probe.Trace"
        })
    });
    assert_eq!(names.await.parent_span_id.to_string(), outer[36..52]);
}

#[tokio::test]
async fn health_is_told_without_a_token() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let bench = Bench::start().await;
    let mut health = HealthClient::new(bench.channel.clone());
    for service in ["", "probe"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let status = health.check(request).await.unwrap().into_inner().status;
        assert_eq!(status, tonic_health::ServingStatus::Serving as i32);
    }
}

#[tokio::test]
async fn unknown_methods_are_told_apart_from_silence() {
    let bench = Bench::start().await;
    let reply = send(&bench.channel, "Nothing", &bench.bearer(), &[])
        .await
        .unwrap();
    let status = Status::from_header_map(reply.headers()).unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(
        bench
            .tasks
            .shutdown(Duration::from_secs(5))
            .await
            .is_empty(),
        "it drains"
    );
    let error = bench.ask("Who").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (crate::Kind::Unavailable, "upstream_unavailable")
    );
}

#[tokio::test]
async fn reads_are_tried_three_times_while_unavailable() {
    let tries = Arc::new(AtomicU32::new(0));
    let call = |fails: u32, status: fn(String) -> Status| {
        let tries = Arc::clone(&tries);
        tries.store(0, Ordering::SeqCst);
        move || {
            let number = tries.fetch_add(1, Ordering::SeqCst);
            async move {
                if number < fails {
                    Err(status("x".into()))
                } else {
                    Ok(number)
                }
            }
        }
    };
    assert_eq!(
        client::retry_safe(call(2, Status::unavailable))
            .await
            .unwrap(),
        2
    );
    assert!(
        client::retry_safe(call(9, Status::unavailable))
            .await
            .is_err()
    );
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert!(
        client::retry_safe(call(9, Status::not_found))
            .await
            .is_err()
    );
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

#[test]
fn replays_are_marked() {
    let response = replayed(tonic::Response::new(()));
    assert!(is_replayed(response.metadata()));
    assert!(is_replayed(
        replayed_status(Status::not_found("x")).metadata()
    ));
    assert!(!is_replayed(tonic::Response::new(()).metadata()));
}
