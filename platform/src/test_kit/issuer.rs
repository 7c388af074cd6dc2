//! Stands in for auth-service: signs access tokens, and serves what the other services ask it for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use futures::stream::BoxStream;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::identity::v1::identity_server::{Identity, IdentityServer};
use proto::identity::v1::*;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::grpc::server::Server;
use crate::principal::{self, Authenticator};
use crate::revocation::Revocations;
use crate::token::{ACCESS_TOKEN_TYPE, Claims};
use crate::{Tasks, time};

const HEARTBEAT: Duration = Duration::from_millis(250);

/// Signs access tokens with an Ed25519 key of its own.
#[derive(Clone)]
pub struct Issuer {
    inner: Arc<Inner>,
}

struct Inner {
    key_id: String,
    public: String,
    encoding: EncodingKey,
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

impl Issuer {
    /// With a new key.
    pub fn new() -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        let der = key.to_pkcs8_der().expect("an Ed25519 key can be encoded");
        let inner = Inner {
            key_id: hex::encode(rand::random::<[u8; 8]>()),
            public: URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes()),
            encoding: EncodingKey::from_ed_der(der.as_bytes()),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Id of the key.
    pub fn key_id(&self) -> &str {
        &self.inner.key_id
    }

    /// The public half as a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        let key = serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": self.inner.key_id, "x": self.inner.public,
        });
        serde_json::json!({ "keys": [key] }).to_string()
    }

    /// Signs claims as they are, sensible or not.
    pub fn sign(&self, claims: &Claims) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(ACCESS_TOKEN_TYPE.to_owned());
        header.kid = Some(self.inner.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.inner.encoding).expect("claims can be signed")
    }

    /// Serves `GetJwks` and `WatchRevocations` on a free port of this machine. Revocations are those of
    /// `authenticator`, which also checks the callers.
    pub async fn serve_identity(
        &self,
        authenticator: &Authenticator,
        tasks: &Tasks,
    ) -> IdentityStub {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        self.serve_identity_on(listener, authenticator, tasks)
    }

    /// As [`Issuer::serve_identity`], on a listener of the test: to come back where another was.
    pub fn serve_identity_on(
        &self,
        listener: TcpListener,
        authenticator: &Authenticator,
        tasks: &Tasks,
    ) -> IdentityStub {
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let stub = IdentityStub {
            uri: format!("http://{address}")
                .parse()
                .expect("an address makes a URI"),
            issuer: self.clone(),
            revocations: authenticator.revocations.clone(),
            silent: Arc::default(),
            keys_served: Arc::default(),
            tasks: tasks.clone(),
        };
        let routes = Routes::new(IdentityServer::new(stub.clone()));
        Server::new("identity-stub", authenticator.clone()).serve(listener, routes, tasks);
        stub
    }
}

/// A running stand-in for auth-service. Cheap to clone.
#[derive(Clone)]
pub struct IdentityStub {
    uri: http::Uri,
    issuer: Issuer,
    revocations: Revocations,
    silent: Arc<AtomicBool>,
    keys_served: Arc<AtomicU64>,
    tasks: Tasks,
}

impl IdentityStub {
    /// Where it answers.
    pub fn uri(&self) -> http::Uri {
        self.uri.clone()
    }

    /// Revokes a session and tells all who watch.
    pub fn revoke(&self, session: Uuid, until: Timestamp) {
        self.revocations.insert(session, until);
    }

    /// Stops (or starts again) to say anything on open streams, as if the network swallowed it.
    pub fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    /// How often the keys were asked for.
    pub fn keys_served(&self) -> u64 {
        self.keys_served.load(Ordering::SeqCst)
    }

    /// Says what was revoked before and since, until the watcher or the test ends.
    async fn tell(self, answers: mpsc::Sender<Result<WatchRevocationsResponse, Status>>) {
        let mut news = self.revocations.subscribe();
        let mut revoked = to_proto(self.revocations.snapshot());
        let mut snapshot_complete = true;
        let token = self.tasks.token();
        loop {
            let silent = self.silent.load(Ordering::SeqCst);
            if !silent {
                let answer = WatchRevocationsResponse {
                    revoked,
                    snapshot_complete,
                };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
                snapshot_complete = false;
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = answers.closed() => return,
                _ = tokio::time::timeout(HEARTBEAT, news.recv()) => {}
            }
            // All of it each time is wasteful and cannot miss anything.
            revoked = to_proto(self.revocations.snapshot());
        }
    }
}

fn to_proto(revoked: Vec<(Uuid, Timestamp)>) -> Vec<RevokedSession> {
    let one = |(session, until): (Uuid, Timestamp)| RevokedSession {
        session_id: session.to_string(),
        until: Some(time::to_proto(until)),
    };
    revoked.into_iter().map(one).collect()
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "the stand-in for auth-service does not know this",
    ))
}

#[tonic::async_trait]
impl Identity for IdentityStub {
    type WatchRevocationsStream = BoxStream<'static, Result<WatchRevocationsResponse, Status>>;

    async fn get_jwks(
        &self,
        request: Request<GetJwksRequest>,
    ) -> Result<Response<GetJwksResponse>, Status> {
        principal::service(&request)?;
        self.keys_served.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(GetJwksResponse {
            jwks_json: self.issuer.jwks(),
        }))
    }

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        principal::service(&request)?;
        let (answers, receiver) = mpsc::channel(16);
        self.tasks
            .spawn("identity-stub-watch", self.clone().tell(answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn register(
        &self,
        _: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        not_here()
    }

    async fn login(&self, _: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        not_here()
    }

    async fn refresh(
        &self,
        _: Request<RefreshRequest>,
    ) -> Result<Response<RefreshResponse>, Status> {
        not_here()
    }

    async fn logout(&self, _: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        not_here()
    }

    async fn logout_all(
        &self,
        _: Request<LogoutAllRequest>,
    ) -> Result<Response<LogoutAllResponse>, Status> {
        not_here()
    }

    async fn verify_email(
        &self,
        _: Request<VerifyEmailRequest>,
    ) -> Result<Response<VerifyEmailResponse>, Status> {
        not_here()
    }

    async fn resend_verification(
        &self,
        _: Request<ResendVerificationRequest>,
    ) -> Result<Response<ResendVerificationResponse>, Status> {
        not_here()
    }

    async fn get_profile(
        &self,
        _: Request<GetProfileRequest>,
    ) -> Result<Response<GetProfileResponse>, Status> {
        not_here()
    }

    async fn update_profile(
        &self,
        _: Request<UpdateProfileRequest>,
    ) -> Result<Response<UpdateProfileResponse>, Status> {
        not_here()
    }

    async fn search_users(
        &self,
        _: Request<SearchUsersRequest>,
    ) -> Result<Response<SearchUsersResponse>, Status> {
        not_here()
    }
}
