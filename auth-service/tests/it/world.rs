//! A running auth-service with a client, and everything that it told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use auth_service::AuthConfig;
use platform::consumer::Consumer;
use platform::database::Database;
use platform::event_bus::{Envelope, HandleError, Handler};
use platform::grpc::client::{GrpcChannel, as_service, as_user, channel};
use platform::test_kit::{DEADLINE, TestPlatform, assert_clean, eventually};
use platform::token::{Claims, KeySet};
use platform::work::{UnitOfWork, Work};
use platform::{Error, Handles};
use prost::{Message, Name};
use proto::events::v1::MailSecret;
use proto::identity::v1::identity_client::IdentityClient;
use proto::identity::v1::*;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct World {
    pub(crate) platform: TestPlatform,
    pub(crate) client: IdentityClient<GrpcChannel>,
    pub(crate) config: AuthConfig,
    pub(crate) db: Database,
    told: Arc<Told>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The clock stands until the test moves it.
    pub(crate) async fn start_with(change: impl FnOnce(&mut AuthConfig)) -> Self {
        let platform = TestPlatform::start_with_manual_clock().await;
        let told = Arc::new(Told::default());
        let db = platform.database::<PlatformOnly>("listener").await;
        let work = Work::new("listener", db, platform.clock());
        let consumer = Consumer::new("listener", work, told.clone());
        let handles = platform.handles();
        handles
            .bus
            .subscribe(consumer, &handles.tasks)
            .await
            .unwrap();

        let mut config = AuthConfig {
            database: platform.database_config("auth"),
            ..cheap()
        };
        change(&mut config);
        let client = serve(config.clone(), handles).await;
        let db = Database::connect(&config.database).await.unwrap();
        Self {
            platform,
            client,
            config,
            db,
            told,
        }
    }

    /// Another replica on the same database.
    pub(crate) async fn replica(&self, config: AuthConfig) -> IdentityClient<GrpcChannel> {
        serve(config, self.platform.handles()).await
    }

    /// Ends the test: every event was sent, nothing is among the dead letters, every task ends.
    pub(crate) async fn end(self) {
        assert_clean(&self.db).await;
        self.db.close().await;
        let left = self.platform.handles().tasks.shutdown(DEADLINE).await;
        assert_eq!(left, Vec::<String>::new());
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.platform.manual_clock().advance(by.try_into().unwrap());
    }

    pub(crate) fn edge<T>(&self, message: T) -> Request<T> {
        self.service("gateway", message)
    }

    pub(crate) fn service<T>(&self, name: &str, message: T) -> Request<T> {
        let handles = self.platform.handles();
        as_service(
            message,
            handles.keys.service_tokens(),
            name,
            handles.clock.now(),
        )
    }

    pub(crate) async fn register(&self, email: &str) -> Result<User, Error> {
        self.register_with(registration(email)).await
    }

    pub(crate) async fn register_with(&self, request: RegisterRequest) -> Result<User, Error> {
        let answer = self.client.clone().register(self.edge(request)).await;
        open(answer).map(|reply| reply.user.unwrap())
    }

    pub(crate) async fn login(&self, email: &str) -> Result<LoginResponse, Error> {
        self.login_with(sign_in(email)).await
    }

    pub(crate) async fn login_with(&self, request: LoginRequest) -> Result<LoginResponse, Error> {
        open(self.client.clone().login(self.edge(request)).await)
    }

    /// Registers and signs in.
    pub(crate) async fn member(&self, email: &str) -> (User, TokenPair) {
        let user = self.register(email).await.unwrap();
        (user, self.login(email).await.unwrap().tokens.unwrap())
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<RefreshResponse, Error> {
        let request = RefreshRequest {
            refresh_token: token.to_owned(),
            client: None,
        };
        open(self.client.clone().refresh(self.edge(request)).await)
    }

    pub(crate) async fn logout(&self, token: &str) -> Result<LogoutResponse, Error> {
        let request = LogoutRequest {
            refresh_token: token.to_owned(),
        };
        open(self.client.clone().logout(self.edge(request)).await)
    }

    pub(crate) async fn logout_all(&self, access: &str) -> Result<i64, Error> {
        let call = async || {
            let request = as_user(LogoutAllRequest {}, access);
            open(self.client.clone().logout_all(request).await)
        };
        once_fresh(call).await.map(|reply| reply.ended)
    }

    pub(crate) async fn verify_email(&self, token: &str) -> Result<User, Error> {
        let request = self.edge(VerifyEmailRequest {
            token: token.to_owned(),
        });
        open(self.client.clone().verify_email(request).await).map(|reply| reply.user.unwrap())
    }

    pub(crate) async fn resend(&self, access: &str) -> Result<(), Error> {
        let call = async || {
            let request = as_user(ResendVerificationRequest {}, access);
            open(self.client.clone().resend_verification(request).await)
        };
        once_fresh(call).await.map(|_| ())
    }

    pub(crate) async fn profile(&self, access: &str) -> Result<User, Error> {
        let request = as_user(GetProfileRequest {}, access);
        open(self.client.clone().get_profile(request).await).map(|reply| reply.user.unwrap())
    }

    pub(crate) async fn update(
        &self,
        access: &str,
        change: UpdateProfileRequest,
    ) -> Result<User, Error> {
        let call = async || {
            let request = as_user(change.clone(), access);
            open(self.client.clone().update_profile(request).await)
        };
        once_fresh(call).await.map(|reply| reply.user.unwrap())
    }

    pub(crate) async fn search(
        &self,
        access: &str,
        query: &str,
        limit: i32,
        cursor: &str,
    ) -> Result<SearchUsersResponse, Error> {
        let request = SearchUsersRequest {
            query: query.to_owned(),
            limit,
            cursor: cursor.to_owned(),
        };
        open(
            self.client
                .clone()
                .search_users(as_user(request, access))
                .await,
        )
    }

    /// What an access token says, checked against the published keys.
    pub(crate) async fn claims(&self, access: &str) -> Claims {
        let reply = open(
            self.client
                .clone()
                .get_jwks(self.edge(GetJwksRequest {}))
                .await,
        );
        let keys = KeySet::new();
        keys.update_from_jwks(&reply.unwrap().jwks_json).unwrap();
        keys.verify(access, self.platform.clock().now()).unwrap()
    }

    /// Every fact of a type that has left so far.
    pub(crate) async fn told<E: Message + Name + Default>(&self) -> Vec<E> {
        assert_clean(&self.db).await;
        let events = self.told.events.lock().unwrap();
        let ours = events.iter().filter(|event| event.r#type == E::full_name());
        ours.map(|event| E::decode(event.data.as_slice()).unwrap())
            .collect()
    }

    /// Every mail of a template that was asked for so far, opened.
    pub(crate) async fn mails(&self, template: &str) -> Vec<MailSecret> {
        let keys = self.platform.handles().keys;
        let all = self.told::<MailRequested>().await;
        all.iter()
            .filter(|mail| mail.template == template)
            .map(|mail| {
                keys.open_mail(&mail.sealed, mail.user_id.as_bytes())
                    .unwrap()
            })
            .collect()
    }

    /// The newest verification token that was mailed to an address.
    pub(crate) async fn mailed_token(&self, email: &str) -> String {
        let mails = self.mails("verify_email").await;
        let last = mails.iter().rfind(|mail| mail.to == email);
        last.expect("a mail").values["token"].clone()
    }
}

/// Argon2 at its cheapest, so that tests do not wait for it.
fn cheap() -> AuthConfig {
    let mut config = AuthConfig::default();
    config.password_hash.memory_kib = 64;
    config.password_hash.iterations = 1;
    config
}

pub(crate) async fn serve(config: AuthConfig, handles: Handles) -> IdentityClient<GrpcChannel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    auth_service::run(config, listener, handles).await.unwrap();
    IdentityClient::new(channel(format!("http://{address}").parse().unwrap()))
}

/// Calls again while heartbeats are late, as they may be on a machine that is busy with other tests.
async fn once_fresh<T>(call: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    eventually(DEADLINE, || async {
        match call().await {
            Err(error) if error.reason() == "revocation_state_unknown" => None,
            answer => Some(answer),
        }
    })
    .await
}

pub(crate) fn open<T>(answer: Result<Response<T>, Status>) -> Result<T, Error> {
    answer
        .map(Response::into_inner)
        .map_err(|status| Error::from_status(&status))
}

pub(crate) fn registration(email: &str) -> RegisterRequest {
    RegisterRequest {
        first_name: "Asha".to_owned(),
        last_name: "Rao".to_owned(),
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        client: Some(client("203.0.113.9")),
    }
}

pub(crate) fn sign_in(email: &str) -> LoginRequest {
    LoginRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        client: Some(client("203.0.113.9")),
        ..LoginRequest::default()
    }
}

pub(crate) fn client(ip: &str) -> ClientContext {
    ClientContext {
        ip: ip.to_owned(),
        user_agent: "tests".to_owned(),
    }
}

/// The fields that an error names.
pub(crate) fn fields(error: &Error) -> Vec<&str> {
    error
        .violations()
        .iter()
        .map(|violation| violation.field.as_str())
        .collect()
}

#[derive(Default)]
struct Told {
    events: Mutex<Vec<Envelope>>,
}

#[async_trait::async_trait]
impl Handler for Told {
    fn types(&self) -> &'static [&'static str] {
        &[
            "identity.v1.UserRegistered",
            "identity.v1.EmailVerified",
            "identity.v1.SessionRevoked",
            "identity.v1.MailRequested",
        ]
    }

    async fn handle(&self, _: &mut UnitOfWork, event: &Envelope) -> Result<(), HandleError> {
        self.events.lock().unwrap().push(event.clone());
        Ok(())
    }
}

struct PlatformOnly;

impl MigratorTrait for PlatformOnly {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        platform::migrations()
    }
}
