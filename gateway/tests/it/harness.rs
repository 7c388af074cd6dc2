//! A gateway with stand-ins behind it, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use gateway::{GatewayConfig, Upstreams};
use platform::grpc::server::Server;
use platform::identity::Authenticator;
use platform::rate_limit::RateLimitStore;
use platform::revocation::Revocations;
use platform::test_kit::{IdentityStub, Issuer, TestPlatform, eventually};
use platform::token::Claims;
use platform::{Handles, Tasks};
use proto::identity::v1::identity_server::IdentityServer;
use proto::notify::v1::notify_server::NotifyServer;
use proto::scheduler::v1::scheduler_server::SchedulerServer;
use proto::wallet::v1::wallet_server::WalletServer;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tonic::service::Routes;
use uuid::Uuid;

use crate::fakes::{FakeIdentity, FakeNotify, FakeScheduler, FakeWallet, Seen};

/// Longest wait for something that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct House {
    pub(crate) platform: TestPlatform,
    pub(crate) seen: Arc<Seen>,
    pub(crate) notify: FakeNotify,
    pub(crate) issuer: Issuer,
    pub(crate) identity: IdentityStub,
    pub(crate) wallet_tasks: Tasks,
    pub(crate) gateway_tasks: Tasks,
    upstreams: Upstreams,
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    pub(crate) user: Uuid,
    pub(crate) token: String,
}

/// A running house without rate limits.
pub(crate) async fn house() -> House {
    house_with(|_| {}).await
}

/// A running house with another configuration.
pub(crate) async fn house_with(change: impl FnOnce(&mut GatewayConfig)) -> House {
    let platform = TestPlatform::start().await;
    let limits = platform.rate_limits();
    build(platform, limits, change).await
}

/// A running house that counts requests in a store of the test's.
pub(crate) async fn house_with_limits(
    limits: Arc<dyn RateLimitStore>,
    change: impl FnOnce(&mut GatewayConfig),
) -> House {
    build(TestPlatform::start().await, limits, change).await
}

/// A running house with a clock that the test moves.
pub(crate) async fn house_with_manual_clock() -> House {
    let platform = TestPlatform::start_with_manual_clock().await;
    let limits = platform.rate_limits();
    build(platform, limits, |_| {}).await
}

async fn build(
    platform: TestPlatform,
    limits: Arc<dyn RateLimitStore>,
    change: impl FnOnce(&mut GatewayConfig),
) -> House {
    let handles = platform.handles();
    let issuer = Issuer::new();
    let authenticator = Authenticator::with_revocations(
        handles.clock.clone(),
        &handles.keys,
        Revocations::source(),
    );
    authenticator.keys.update_from_jwks(&issuer.jwks()).unwrap();
    let identity = issuer.serve_identity(&authenticator, &handles.tasks).await;

    let seen = Arc::new(Seen::default());
    let wallet_tasks = Tasks::new();
    let notify = FakeNotify::new(seen.clone(), handles.tasks.clone());
    let serve = async |name: &'static str, routes: Routes, tasks: &Tasks| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        Server::new(name, authenticator.clone()).serve(listener, routes, tasks);
        uri
    };
    let upstreams = Upstreams {
        auth: serve(
            "auth-service",
            Routes::new(IdentityServer::new(FakeIdentity(seen.clone()))),
            &handles.tasks,
        )
        .await,
        wallet: serve(
            "wallet-service",
            Routes::new(WalletServer::new(FakeWallet(seen.clone()))),
            &wallet_tasks,
        )
        .await,
        notify: serve(
            "notify-service",
            Routes::new(NotifyServer::new(notify.clone())),
            &handles.tasks,
        )
        .await,
        scheduler: serve(
            "scheduler-service",
            Routes::new(SchedulerServer::new(FakeScheduler(seen.clone()))),
            &handles.tasks,
        )
        .await,
    };

    let gateway_tasks = Tasks::new();
    let for_gateway = Handles {
        identity: identity.uri().into(),
        tasks: gateway_tasks.clone(),
        ..handles.clone()
    };
    let address = start_gateway(&upstreams, limits, for_gateway, change).await;

    let user = platform::id::new(handles.clock.now());
    let token = issuer.sign(&platform.claims(user));
    let house = House {
        platform,
        seen,
        notify,
        issuer,
        identity,
        wallet_tasks,
        gateway_tasks,
        upstreams,
        address,
        http: reqwest::Client::new(),
        user,
        token,
    };
    house.is_ready(address).await;
    house
}

/// Starts a gateway that, unless the test changes that, limits nobody.
async fn start_gateway(
    upstreams: &Upstreams,
    limits: Arc<dyn RateLimitStore>,
    handles: Handles,
    change: impl FnOnce(&mut GatewayConfig),
) -> SocketAddr {
    let mut config = GatewayConfig::default();
    config.rate_limit.enabled = false;
    change(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    gateway::run(config, listener, upstreams.clone(), limits, handles)
        .await
        .unwrap();
    address
}

impl House {
    /// Starts one more gateway before the same services.
    pub(crate) async fn another_gateway(
        &self,
        limits: Arc<dyn RateLimitStore>,
        change: impl FnOnce(&mut GatewayConfig),
    ) -> SocketAddr {
        let handles = Handles {
            identity: self.identity.uri().into(),
            tasks: self.gateway_tasks.clone(),
            ..self.platform.handles()
        };
        let address = start_gateway(&self.upstreams, limits, handles, change).await;
        self.is_ready(address).await;
        address
    }

    /// Waits until a gateway has news of revocations.
    async fn is_ready(&self, address: SocketAddr) {
        let url = format!("http://{address}/health/ready");
        eventually(SOON, || async {
            let report = self.http.get(&url).send().await.unwrap();
            report.json::<Value>().await.unwrap()["dependencies"]["revocations"]["state"] == "fresh"
        })
        .await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request without a token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// A GET without a token.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// A request with the user's token.
    pub(crate) fn member(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(&self.token)
    }

    /// A POST of JSON with the user's token and an idempotency key.
    pub(crate) fn keyed(&self, path: &str, body: &Value) -> RequestBuilder {
        self.member(Method::POST, path)
            .header("Idempotency-Key", "key-1")
            .json(body)
    }

    pub(crate) fn claims(&self) -> Claims {
        self.platform.claims(self.user)
    }

    /// Opens a socket without saying hello.
    pub(crate) async fn socket(&self) -> Socket {
        let (stream, _) = connect_async(format!("ws://{}/v1/stream", self.address))
            .await
            .unwrap();
        Socket { stream }
    }

    /// Opens a socket and says hello with the user's token.
    pub(crate) async fn hello(&self, after: Option<i64>) -> Socket {
        let mut socket = self.socket().await;
        let mut hello = json!({"type": "hello", "token": self.token, "device_id": "d1"});
        if let Some(after) = after {
            hello["after"] = after.into();
        }
        socket.say(&hello).await;
        socket
    }
}

/// A problem document.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

/// Sends a request that must be refused with a problem document.
pub(crate) async fn refused(request: RequestBuilder) -> Refusal {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    assert!(status >= 400, "{status} {text}");
    assert_eq!(
        headers["content-type"], "application/problem+json",
        "{text}"
    );
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status);
    assert_eq!(
        body["request_id"],
        headers["x-request-id"].to_str().unwrap()
    );
    for member in ["type", "title", "code", "detail", "instance", "violations"] {
        assert!(!body[member].is_null(), "{member} in {body}");
    }
    Refusal {
        status,
        headers,
        body,
    }
}

impl Refusal {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap()
    }

    pub(crate) fn fields(&self) -> Vec<&str> {
        let violations = self.body["violations"].as_array().unwrap();
        violations
            .iter()
            .map(|one| one["field"].as_str().unwrap())
            .collect()
    }
}

pub(crate) struct Socket {
    pub(crate) stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    pub(crate) async fn say(&mut self, frame: &Value) {
        self.say_text(&frame.to_string()).await;
    }

    pub(crate) async fn say_text(&mut self, frame: &str) {
        self.stream.send(Message::text(frame)).await.unwrap();
    }

    /// The next frame of the server.
    pub(crate) async fn hear(&mut self) -> Value {
        loop {
            let next = tokio::time::timeout(SOON, self.stream.next()).await;
            match next.expect("a frame").expect("an open socket").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The numbers of the next events.
    pub(crate) async fn hear_events(&mut self, count: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let frame = self.hear().await;
            assert_eq!(frame["type"], "event", "{frame}");
            numbers.push(frame["seq"].as_i64().unwrap());
        }
        numbers
    }

    /// The code that the server closes with; other frames before it are passed over.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            let next = tokio::time::timeout(SOON, self.stream.next()).await;
            match next.expect("a close frame").expect("a close frame") {
                Ok(Message::Close(Some(frame))) => return frame.code.into(),
                Ok(Message::Close(None)) => panic!("closed without a code"),
                Ok(_) => {}
                Err(error) => panic!("broken instead of closed: {error}"),
            }
        }
    }
}
