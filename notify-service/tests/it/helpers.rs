//! A running service and what surrounds it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use notify_service::{MailConfig, NotifyConfig};
use platform::Handles;
use platform::database::Database;
use platform::grpc::client::{self, GrpcChannel};
use platform::test_kit::{DEADLINE, TestPlatform, eventually};
use proto::identity::v1::UserRegistered;
use proto::notify::v1::notify_client::NotifyClient;
use proto::notify::v1::subscribe_response::Frame;
use proto::notify::v1::{
    AcknowledgeRequest, GetUnreadCountRequest, Notification, SendTestRequest, StreamEvent,
    SubscribeRequest, SubscribeResponse,
};
use proto::wallet::v1::{DepositPosted, Money, Side, TransferPosted};
use sea_orm::{ConnectionTrait, Statement};
use tokio::net::TcpListener;
use tonic::{Status, Streaming};
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) platform: TestPlatform,
    pub(crate) config: NotifyConfig,
    pub(crate) client: NotifyClient<GrpcChannel>,
    /// The service's database, to look behind the curtain.
    pub(crate) db: Database,
    versions: AtomicU64,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_on(TestPlatform::start().await, |_| {}).await
    }

    /// With a clock that stands: no timer of the service ever fires by itself.
    pub(crate) async fn start_with_manual_clock() -> Self {
        Self::start_on(TestPlatform::start_with_manual_clock().await, |_| {}).await
    }

    pub(crate) async fn start_on(
        platform: TestPlatform,
        change: impl FnOnce(&mut NotifyConfig),
    ) -> Self {
        let mut config = NotifyConfig {
            database: platform.database_config("notify"),
            mail: MailConfig {
                folder: platform.dir().join("mail"),
                ..MailConfig::default()
            },
            ..NotifyConfig::default()
        };
        // Tests that wait for a round move the clock, and tokens must outlive that.
        config.stream.trim_every_s = 1;
        change(&mut config);
        let client = serve(&config, platform.handles()).await;
        let db = Database::connect(&config.database).await.unwrap();
        let world = Self {
            platform,
            config,
            client,
            db,
            versions: AtomicU64::new(1),
        };
        world.ready(&world.client).await;
        world
    }

    /// Waits until the service knows the keys of tokens and has heard of revocations.
    pub(crate) async fn ready(&self, client: &NotifyClient<GrpcChannel>) {
        let token = self.platform.token(new_id());
        eventually(DEADLINE, || async {
            let ask = SubscribeRequest {
                after: None,
                device_id: String::new(),
            };
            client
                .clone()
                .subscribe(client::as_user(ask, &token))
                .await
                .is_ok()
        })
        .await;
    }

    /// Tells the service of a user.
    pub(crate) async fn register(&self, handle: &str) -> User {
        let user = User {
            id: new_id(),
            account: new_id(),
            handle: handle.to_owned(),
        };
        self.platform.emit(user.id, &registered(&user)).await;
        user
    }

    pub(crate) fn token(&self, user: &User) -> String {
        self.platform.token(user.id)
    }

    pub(crate) async fn transfer(&self, from: &User, to: &User, amount_minor: i64) -> String {
        let event = self.transfer_event(from, to, amount_minor);
        self.platform.emit(&event.transaction_id, &event).await;
        event.transaction_id
    }

    pub(crate) fn transfer_event(&self, from: &User, to: &User, minor: i64) -> TransferPosted {
        TransferPosted {
            transaction_id: new_id().to_string(),
            amount: inr(minor),
            from: Some(self.side(from)),
            to: Some(self.side(to)),
            category: "food".to_owned(),
        }
    }

    pub(crate) fn deposit_event(&self, to: &User, minor: i64) -> DepositPosted {
        DepositPosted {
            transaction_id: new_id().to_string(),
            amount: inr(minor),
            to: Some(self.side(to)),
        }
    }

    fn side(&self, user: &User) -> Side {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        Side {
            account_id: user.account.to_string(),
            user_id: user.id.to_string(),
            version: i64::try_from(version).unwrap(),
            posted_minor: 10_000,
            pending_minor: 500,
            available_minor: 9_500,
        }
    }

    pub(crate) async fn subscribe(
        &self,
        token: &str,
        after: Option<i64>,
        device_id: &str,
    ) -> Result<Listener, Status> {
        let ask = SubscribeRequest {
            after,
            device_id: device_id.to_owned(),
        };
        let stream = self
            .client
            .clone()
            .subscribe(client::as_user(ask, token))
            .await?;
        let mut stream = stream.into_inner();
        let Some(Frame::Ready(ready)) = next_frame(&mut stream).await? else {
            panic!("`ready` comes first");
        };
        Ok(Listener {
            ready: ready.seq,
            stream,
        })
    }

    pub(crate) async fn acknowledge(
        &self,
        token: &str,
        seq: i64,
        device_id: &str,
    ) -> Result<(), Status> {
        let ask = AcknowledgeRequest {
            seq,
            device_id: device_id.to_owned(),
        };
        self.client
            .clone()
            .acknowledge(client::as_user(ask, token))
            .await
            .map(drop)
    }

    /// All events of a user, from the first kept.
    pub(crate) async fn events(&self, user: &User) -> Vec<StreamEvent> {
        let mut listener = self
            .subscribe(&self.token(user), Some(0), "")
            .await
            .unwrap();
        let first = self.number(
            "SELECT first_kept FROM stream_heads WHERE user_id = $1",
            user.id,
        );
        let missing = listener.ready - first.await.unwrap_or(1) + 1;
        listener.take(usize::try_from(missing).unwrap()).await
    }

    pub(crate) async fn unread(&self, user: &User) -> i64 {
        let ask = client::as_user(GetUnreadCountRequest {}, &self.token(user));
        self.client
            .clone()
            .get_unread_count(ask)
            .await
            .unwrap()
            .into_inner()
            .unread
    }

    /// The first column of the first row.
    pub(crate) async fn number(&self, sql: &str, id: Uuid) -> Option<i64> {
        let statement = Statement::from_sql_and_values(self.db.backend(), sql, [id.into()]);
        let row = self.db.reader().query_one_raw(statement).await.unwrap()?;
        Some(row.try_get_by_index(0).unwrap())
    }
}

pub(crate) async fn serve(config: &NotifyConfig, handles: Handles) -> NotifyClient<GrpcChannel> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    notify_service::run(config.clone(), listener, handles)
        .await
        .unwrap();
    NotifyClient::new(client::channel(uri))
}

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: Uuid,
    pub(crate) account: Uuid,
    pub(crate) handle: String,
}

pub(crate) fn registered(user: &User) -> UserRegistered {
    UserRegistered {
        user_id: user.id.to_string(),
        handle: user.handle.clone(),
        email_hash: vec![1; 32],
        version: 1,
    }
}

/// An open stream.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) ready: i64,
    stream: Streaming<SubscribeResponse>,
}

impl Listener {
    pub(crate) async fn next(&mut self) -> Result<StreamEvent, Status> {
        match next_frame(&mut self.stream).await? {
            Some(Frame::Event(event)) => Ok(event),
            other => panic!("an event was expected, not {other:?}"),
        }
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.unwrap());
        }
        events
    }

    /// Whether nothing more is there at the moment.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.stream.message())
            .await
            .is_err()
    }
}

async fn next_frame(stream: &mut Streaming<SubscribeResponse>) -> Result<Option<Frame>, Status> {
    let message = tokio::time::timeout(DEADLINE, stream.message()).await;
    Ok(message
        .expect("a frame within the deadline")?
        .and_then(|message| message.frame))
}

/// Calls again while heartbeats are late, as they may be on a machine that is busy with other tests.
pub(crate) async fn once_fresh<T>(call: impl AsyncFn() -> Result<T, Status>) -> Result<T, Status> {
    eventually(DEADLINE, || async {
        match call().await {
            Err(status) if reason(&status) == "revocation_state_unknown" => None,
            answer => Some(answer),
        }
    })
    .await
}

/// Asks for a test notification.
pub(crate) async fn send_test(world: &World, user: &User) -> Result<Notification, Status> {
    let token = world.token(user);
    let call = async || {
        let ask = client::as_user(SendTestRequest {}, &token);
        world.client.clone().send_test(ask).await
    };
    let reply = once_fresh(call).await?;
    Ok(reply.into_inner().notification.unwrap())
}

pub(crate) fn new_id() -> Uuid {
    platform::id::new(jiff::Timestamp::now())
}

pub(crate) fn inr(amount_minor: i64) -> Option<Money> {
    Some(Money {
        amount_minor,
        currency: "INR".to_owned(),
    })
}

pub(crate) fn data(event: &StreamEvent) -> serde_json::Value {
    serde_json::from_str(&event.data_json).unwrap()
}

pub(crate) fn reason(status: &Status) -> String {
    platform::Error::from_status(status).reason().to_owned()
}

pub(crate) fn field(status: &Status) -> String {
    platform::Error::from_status(status).violations()[0]
        .field
        .clone()
}

/// The mails in the folder, by file.
pub(crate) fn mails(world: &World) -> Vec<(PathBuf, String)> {
    let Ok(entries) = std::fs::read_dir(&world.config.mail.folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect()
}
