//! A wallet of its own for each test.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use platform::consumer::Consumer;
use platform::database::Database;
use platform::event_bus::{Envelope, HandleError, Handler, decode};
use platform::grpc::client::{GrpcChannel, as_user, channel};
use platform::test_kit::{TestPlatform, assert_clean, envelope, eventually};
use platform::work::{UnitOfWork, Work};
use platform::{Error, Tasks, id};
use proto::identity::v1::{EmailVerified, UserRegistered};
use proto::wallet::v1::wallet_client::WalletClient;
use proto::wallet::v1::{self as wire, payee::By};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use tonic::{Response, Status};
use uuid::Uuid;
use wallet_service::{PosterConfig, WalletConfig, verify_ledger};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Everything the wallet told.
#[derive(Default)]
struct Witness(Mutex<Vec<Envelope>>);

#[async_trait]
impl Handler for Witness {
    fn types(&self) -> &'static [&'static str] {
        &[
            "wallet.v1.AccountOpened",
            "wallet.v1.DepositPosted",
            "wallet.v1.TransferPosted",
            "wallet.v1.TransferRefused",
        ]
    }

    async fn handle(&self, _: &mut UnitOfWork, event: &Envelope) -> Result<(), HandleError> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

struct Tables;

impl MigratorTrait for Tables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        platform::migrations()
    }
}

pub(crate) struct Wallet {
    pub(crate) platform: TestPlatform,
    pub(crate) client: WalletClient<GrpcChannel>,
    pub(crate) db: Database,
    /// Those of the service alone.
    pub(crate) tasks: Tasks,
    config: WalletConfig,
    witness: Arc<Witness>,
}

/// One more process of the service.
pub(crate) struct Replica {
    pub(crate) client: WalletClient<GrpcChannel>,
    tasks: Tasks,
}

impl Replica {
    pub(crate) async fn stop(self) {
        let left = self.tasks.shutdown(Duration::from_secs(10)).await;
        assert!(left.is_empty(), "these tasks did not end: {left:?}");
    }
}

/// Somebody who uses the wallet.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) id: Uuid,
    pub(crate) handle: String,
    pub(crate) email: String,
    pub(crate) token: String,
}

impl Wallet {
    pub(crate) async fn start() -> Self {
        Self::start_with(PosterConfig::default()).await
    }

    pub(crate) async fn start_with(poster: PosterConfig) -> Self {
        let platform = TestPlatform::start().await;
        let config = WalletConfig {
            database: platform.database_config("wallet"),
            categories: vec!["pets".to_owned()],
            poster,
            ..WalletConfig::default()
        };
        let handles = platform.handles();
        let witness = Arc::new(Witness::default());
        let seen = platform.database::<Tables>("witness").await;
        let seen = Work::new("witness", seen, platform.clock());
        let consumer = Consumer::new("witness", seen, witness.clone());
        handles
            .bus
            .subscribe(consumer, &handles.tasks)
            .await
            .unwrap();

        let (tasks, client) = serve(&platform, &config).await;
        let db = Database::connect(&platform.database_config("wallet"))
            .await
            .unwrap();
        Self {
            platform,
            client,
            db,
            tasks,
            config,
            witness,
        }
    }

    /// A second replica of the service on the same database.
    pub(crate) async fn replica(&self) -> Replica {
        let (tasks, client) = serve(&self.platform, &self.config).await;
        Replica { client, tasks }
    }

    /// Keeps everybody from claiming a key until the transaction ends; on SQLite, from writing at all.
    pub(crate) async fn hold_keys(&self) -> DatabaseTransaction {
        self.hold("idempotency_keys").await
    }

    /// Keeps everybody from locking an account until the transaction ends; on SQLite, from writing at all.
    pub(crate) async fn hold_accounts(&self) -> DatabaseTransaction {
        self.hold("accounts").await
    }

    async fn hold(&self, table: &str) -> DatabaseTransaction {
        let tx = self.db.begin().await.unwrap();
        if self.is_postgres() {
            let lock = format!("LOCK TABLE {table} IN EXCLUSIVE MODE");
            tx.execute_unprepared(&lock).await.unwrap();
        }
        tx
    }

    /// Whether the test runs on a server.
    pub(crate) fn is_postgres(&self) -> bool {
        self.db.backend() == DbBackend::Postgres
    }

    /// A number that the database tells.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let query = Statement::from_string(self.db.backend(), sql);
        let row = self.db.reader().query_one_raw(query).await.unwrap();
        row.unwrap().try_get("", "n").unwrap()
    }

    /// Starts the service again after it has ended.
    pub(crate) async fn start_again(&mut self) {
        (self.tasks, self.client) = serve(&self.platform, &self.config).await;
    }

    /// A new user whose address is confirmed, with an account as soon as the events have arrived.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let person = self.stranger(name);
        self.platform.publish(self.registered(&person)).await;
        self.platform.publish(self.verified(&person)).await;
        person
    }

    /// A user of whom the wallet has not heard.
    pub(crate) fn stranger(&self, name: &str) -> Person {
        let id = id::new(self.platform.clock().now());
        let handle = format!("{}{}", name.to_uppercase(), &id.simple().to_string()[24..]);
        let email = format!("{name}-{id}@example.com");
        Person {
            id,
            handle: handle.to_uppercase(),
            email,
            token: self.platform.token(id),
        }
    }

    pub(crate) fn registered(&self, person: &Person) -> Envelope {
        let fact = UserRegistered {
            user_id: person.id.to_string(),
            handle: person.handle.clone(),
            email_hash: self.platform.handles().keys.email_hash(&person.email),
            version: 1,
        };
        envelope(self.platform.clock().now(), person.id, &fact)
    }

    pub(crate) fn verified(&self, person: &Person) -> Envelope {
        let fact = EmailVerified {
            user_id: person.id.to_string(),
            version: 2,
        };
        envelope(self.platform.clock().now(), person.id, &fact)
    }

    /// A new user with this much in the default currency.
    pub(crate) async fn rich(&self, name: &str, amount_minor: i64) -> Person {
        let person = self.person(name).await;
        self.deposit(&person, "first", amount_minor).await.unwrap();
        person
    }

    pub(crate) async fn deposit(
        &self,
        person: &Person,
        key: &str,
        amount_minor: i64,
    ) -> Result<Response<wire::DepositResponse>, Status> {
        let request = wire::DepositRequest {
            idempotency_key: key.to_owned(),
            amount: Some(inr(amount_minor)),
            ..Default::default()
        };
        self.client
            .clone()
            .deposit(as_user(request, &person.token))
            .await
    }

    pub(crate) async fn pay(
        &self,
        payer: &Person,
        payee: &Person,
        key: &str,
        amount_minor: i64,
    ) -> Result<Response<wire::TransferResponse>, Status> {
        self.transfer(
            payer,
            transfer(key, By::Handle(payee.handle.clone()), amount_minor),
        )
        .await
    }

    pub(crate) async fn transfer(
        &self,
        payer: &Person,
        request: wire::TransferRequest,
    ) -> Result<Response<wire::TransferResponse>, Status> {
        self.client
            .clone()
            .transfer(as_user(request, &payer.token))
            .await
    }

    pub(crate) async fn accounts(&self, person: &Person) -> Vec<wire::Account> {
        let request = as_user(wire::ListAccountsRequest {}, &person.token);
        self.client
            .clone()
            .list_accounts(request)
            .await
            .unwrap()
            .into_inner()
            .accounts
    }

    /// What a person has in the default currency, in minor units.
    pub(crate) async fn balance(&self, person: &Person) -> i64 {
        let accounts = self.accounts(person).await;
        let inr = accounts.iter().find(|one| one.currency == "INR").unwrap();
        inr.available.as_ref().unwrap().amount_minor
    }

    pub(crate) async fn history(
        &self,
        person: &Person,
        request: wire::ListTransactionsRequest,
    ) -> Result<wire::ListTransactionsResponse, Status> {
        let request = as_user(request, &person.token);
        Ok(self
            .client
            .clone()
            .list_transactions(request)
            .await?
            .into_inner())
    }

    /// What was told so far of one type, in no order.
    pub(crate) async fn told<E: prost::Message + prost::Name + Default>(&self) -> Vec<E> {
        assert_clean(&self.db).await;
        let events = self.witness.0.lock().unwrap();
        let wanted = events.iter().filter(|event| event.r#type == E::full_name());
        wanted.map(|event| decode(event).unwrap()).collect()
    }

    /// Asserts that nothing is left to be told and that the ledger adds up.
    pub(crate) async fn assert_sound(&self) {
        assert_clean(&self.db).await;
        let report = verify_ledger(&self.db).await.unwrap();
        assert!(report.is_clean(), "{report}");
    }
}

/// Starts the service and waits until it has heard of keys and revocations.
async fn serve(
    platform: &TestPlatform,
    config: &WalletConfig,
) -> (Tasks, WalletClient<GrpcChannel>) {
    let handles = platform.handles_with_own_tasks();
    let tasks = handles.tasks.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    wallet_service::run(config.clone(), listener, handles)
        .await
        .unwrap();
    let client = WalletClient::new(channel(uri.parse().unwrap()));
    let stranger = platform.token(Uuid::from_u128(7));
    eventually(PATIENCE, || async {
        let request = as_user(wire::OpenAccountRequest::default(), &stranger);
        let status = client.clone().open_account(request).await.unwrap_err();
        status.code() == tonic::Code::InvalidArgument
    })
    .await;
    (tasks, client)
}

pub(crate) fn inr(amount_minor: i64) -> wire::Money {
    wire::Money {
        amount_minor,
        currency: "INR".to_owned(),
    }
}

pub(crate) fn transfer(key: &str, by: By, amount_minor: i64) -> wire::TransferRequest {
    wire::TransferRequest {
        idempotency_key: key.to_owned(),
        to: Some(wire::Payee { by: Some(by) }),
        amount: Some(inr(amount_minor)),
        ..Default::default()
    }
}

/// The stable reason of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    Error::from_status(status).reason().to_owned()
}

/// The fields that a refusal names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    Error::from_status(status)
        .violations()
        .iter()
        .map(|one| one.field.clone())
        .collect()
}

/// Runs all at once and waits for all, in their order.
pub(crate) async fn all<T: Send + 'static>(
    calls: impl IntoIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    futures::future::join_all(calls).await
}
