//! A scheduler that a test can start, kill and start again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use platform::consumer::Consumer;
use platform::database::Database;
use platform::event_bus::{Envelope, HandleError, Handler, decode};
use platform::grpc::client::{GrpcChannel, as_user, channel};
use platform::principal::Role;
use platform::test_kit::{IdentityStub, Issuer, TestPlatform, assert_clean, eventually};
use platform::work::{UnitOfWork, Work};
use platform::{Error, SharedClock, Tasks, time};
use proto::scheduler::v1 as pb;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use proto::scheduler::v1::upload_sms_recipients_request::Part;
use scheduler_service::providers::{Providers, SmsProvider};
use scheduler_service::{SchedulerConfig, Simulator, SubmitRecord, simulator_journal};
use sea_orm_migration::prelude::*;
use uuid::Uuid;

/// Longest wait for anything, in real time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A scheduler of one or more replicas, each on a runtime of its own, so that it can be killed in the middle of anything.
pub(crate) struct Service {
    pub(crate) platform: TestPlatform,
    pub(crate) config: SchedulerConfig,
    pub(crate) user: Uuid,
    pub(crate) finished: Arc<Mutex<Vec<pb::SmsScheduleFinished>>>,
    /// Who signs the tokens, where that is not the platform's own.
    pub(crate) identity: Option<(Issuer, IdentityStub)>,
    /// By number; `None` once it was killed.
    replicas: Vec<Option<Running>>,
}

struct Running {
    runtime: tokio::runtime::Runtime,
    tasks: Tasks,
    client: SchedulerClient<GrpcChannel>,
}

struct Tables;

impl MigratorTrait for Tables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        platform::migrations()
    }
}

struct Listener(Arc<Mutex<Vec<pb::SmsScheduleFinished>>>);

#[async_trait]
impl Handler for Listener {
    fn types(&self) -> &'static [&'static str] {
        &["scheduler.v1.SmsScheduleFinished"]
    }

    async fn handle(&self, _: &mut UnitOfWork, event: &Envelope) -> Result<(), HandleError> {
        self.0.lock().unwrap().push(decode(event)?);
        Ok(())
    }
}

impl Service {
    /// A scheduler with the simulator, quick and without a random fate but the configured one.
    pub(crate) async fn start(adapt: impl FnOnce(&mut SchedulerConfig)) -> Self {
        let mut service = Self::prepare(adapt).await;
        service.launch_with_simulator().await;
        service
    }

    /// All that [`Service::start`] does but the start.
    pub(crate) async fn prepare(adapt: impl FnOnce(&mut SchedulerConfig)) -> Self {
        let platform = TestPlatform::start_with_manual_clock().await;
        let mut config = SchedulerConfig {
            database: platform.database_config("scheduler"),
            ..SchedulerConfig::default()
        };
        config.simulator.journal = platform.dir().join("simulator.jsonl");
        config.simulator.submit_latency_ms = 0;
        adapt(&mut config);
        let finished = Arc::new(Mutex::new(Vec::new()));
        let db = platform.database::<Tables>("listener").await;
        let work = Work::new("listener", db, platform.clock());
        let consumer = Consumer::new("listener", work, Arc::new(Listener(finished.clone())));
        let handles = platform.handles();
        handles
            .bus
            .subscribe(consumer, &handles.tasks)
            .await
            .unwrap();
        Self {
            platform,
            config,
            user: Uuid::now_v7(),
            finished,
            identity: None,
            replicas: Vec::new(),
        }
    }

    /// As [`Service::prepare`], for several replicas. `None` on SQLite, whose file belongs to one process.
    pub(crate) async fn prepare_for_replicas(
        adapt: impl FnOnce(&mut SchedulerConfig),
    ) -> Option<Self> {
        let service = Self::prepare(adapt).await;
        (!service.config.database.url.starts_with("sqlite")).then_some(service)
    }

    pub(crate) async fn simulator(&self) -> Simulator {
        Simulator::open(self.config.simulator.clone(), self.platform.clock())
            .await
            .unwrap()
    }

    pub(crate) async fn launch_with_simulator(&mut self) {
        let simulator = self.simulator().await;
        self.launch(Arc::new(simulator)).await;
    }

    /// Starts the scheduler with one provider.
    pub(crate) async fn launch(&mut self, provider: Arc<dyn SmsProvider>) {
        assert!(self.replicas.iter().all(Option::is_none));
        self.replicas.clear();
        self.join(provider, self.platform.clock()).await;
    }

    /// Starts one more replica with a provider and a clock of its own; gives its number.
    pub(crate) async fn join(
        &mut self,
        provider: Arc<dyn SmsProvider>,
        clock: SharedClock,
    ) -> usize {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut handles = self.platform.handles_with_own_tasks();
        handles.clock = clock;
        if let Some((_, stub)) = &self.identity {
            handles.identity = stub.uri().into();
        }
        let tasks = handles.tasks.clone();
        let config = self.config.clone();
        let started = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let providers = Providers::new([provider]);
            scheduler_service::run_with(config, listener, handles, providers)
                .await
                .unwrap();
            address
        });
        let address = started.await.unwrap();
        let client = SchedulerClient::new(channel(format!("http://{address}").parse().unwrap()));
        self.replicas.push(Some(Running {
            runtime,
            tasks,
            client,
        }));
        let number = self.replicas.len() - 1;
        // The keys of the tokens have to be fetched first.
        eventually(PATIENCE, || async {
            let request = self.ask(pb::ListSmsSchedulesRequest::default());
            self.client_of(number)
                .list_sms_schedules(request)
                .await
                .is_ok()
        })
        .await;
        number
    }

    /// Ends the scheduler as SIGKILL would: nothing of it runs on, nothing is cleaned up.
    pub(crate) fn kill(&mut self) {
        self.kill_replica(0);
    }

    /// As [`Service::kill`], one of several replicas.
    pub(crate) fn kill_replica(&mut self, number: usize) {
        let running = self.replicas[number].take().unwrap();
        running.runtime.shutdown_background();
    }

    /// Ends the scheduler as asked to, and asserts that it left nothing undone.
    pub(crate) async fn stop(mut self) {
        let db = Database::connect(&self.config.database).await.unwrap();
        assert_clean(&db).await;
        db.close().await;
        for running in self.replicas.drain(..).flatten() {
            let left = running.tasks.shutdown(PATIENCE).await;
            assert!(left.is_empty(), "{left:?}");
            running.runtime.shutdown_background();
        }
    }

    /// As [`Service::stop`], once as many ends of schedules were told; that no more were, it asserts too.
    pub(crate) async fn stop_with_finished(self, schedules: usize) {
        let finished = self.finished.clone();
        let told = || finished.lock().unwrap().len();
        eventually(PATIENCE, || async { told() >= schedules }).await;
        self.stop().await;
        let told: Vec<String> = finished
            .lock()
            .unwrap()
            .iter()
            .map(|f| f.schedule_id.clone())
            .collect();
        assert_eq!(told.len(), schedules, "{told:?}");
        assert_eq!(told.into_iter().collect::<HashSet<_>>().len(), schedules);
    }

    /// A way to the youngest replica that lives.
    pub(crate) fn client(&self) -> SchedulerClient<GrpcChannel> {
        let living = self.replicas.iter().flatten().next_back();
        living.unwrap().client.clone()
    }

    pub(crate) fn client_of(&self, number: usize) -> SchedulerClient<GrpcChannel> {
        self.replicas[number].as_ref().unwrap().client.clone()
    }

    pub(crate) fn ask<T>(&self, message: T) -> tonic::Request<T> {
        let claims = self.platform.claims(self.user);
        let token = match &self.identity {
            Some((issuer, _)) => issuer.sign(&claims),
            None => self.platform.token_with(&claims),
        };
        as_user(message, &token)
    }

    pub(crate) fn ask_as_staff<T>(&self, message: T) -> tonic::Request<T> {
        let mut claims = self.platform.claims(self.user);
        claims.role = Role::Support;
        as_user(message, &self.platform.token_with(&claims))
    }

    /// A request to send `text` now to `recipients`.
    pub(crate) fn order<S: AsRef<str>>(
        &self,
        key: &str,
        recipients: &[S],
    ) -> pb::CreateSmsScheduleRequest {
        pb::CreateSmsScheduleRequest {
            idempotency_key: key.to_owned(),
            run_at: Some(time::to_proto(self.platform.clock().now())),
            message: "Hello".to_owned(),
            recipients: recipients.iter().map(|r| r.as_ref().to_owned()).collect(),
            name: "greetings".to_owned(),
            provider: String::new(),
        }
    }

    pub(crate) async fn create(
        &self,
        order: pb::CreateSmsScheduleRequest,
    ) -> Result<pb::CreateSmsScheduleResponse, Error> {
        answer(self.client().create_sms_schedule(self.ask(order)).await)
    }

    /// Creates a schedule that must be accepted, and gives its id.
    pub(crate) async fn created<S: AsRef<str>>(&self, key: &str, recipients: &[S]) -> String {
        self.create(self.order(key, recipients))
            .await
            .unwrap()
            .schedule
            .unwrap()
            .id
    }

    pub(crate) async fn list(&self) -> Result<pb::ListSmsSchedulesResponse, Error> {
        let request = self.ask(pb::ListSmsSchedulesRequest::default());
        answer(self.client().list_sms_schedules(request).await)
    }

    pub(crate) async fn get(&self, id: &str) -> Result<pb::SmsSchedule, Error> {
        let request = self.ask(pb::GetSmsScheduleRequest {
            schedule_id: id.to_owned(),
        });
        answer(self.client().get_sms_schedule(request).await).map(|r| r.schedule.unwrap())
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<pb::SmsSchedule, Error> {
        let request = self.ask(pb::CancelSmsScheduleRequest {
            schedule_id: id.to_owned(),
        });
        answer(self.client().cancel_sms_schedule(request).await).map(|r| r.schedule.unwrap())
    }

    /// The progress, whose counts always sum to the total.
    pub(crate) async fn progress(&self, id: &str) -> pb::GetSmsProgressResponse {
        let request = self.ask(pb::GetSmsProgressRequest {
            schedule_id: id.to_owned(),
        });
        let progress = answer(self.client().get_sms_progress(request).await).unwrap();
        assert_eq!(
            progress.by_state.values().sum::<i64>(),
            progress.total,
            "{progress:?}"
        );
        assert!(progress.by_state.values().all(|n| *n > 0), "{progress:?}");
        progress
    }

    /// All messages of a schedule, page by page.
    pub(crate) async fn messages(&self, id: &str, state: &str) -> Vec<pb::SmsMessage> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let request = self.ask(pb::ListSmsMessagesRequest {
                schedule_id: id.to_owned(),
                state: state.to_owned(),
                limit: 100,
                cursor,
            });
            let page = answer(self.client().list_sms_messages(request).await).unwrap();
            all.extend(page.messages);
            cursor = page.next_cursor;
            if cursor.is_empty() {
                return all;
            }
        }
    }

    /// Uploads a file in these pieces.
    pub(crate) async fn upload<P: AsRef<[u8]>>(
        &self,
        id: &str,
        pieces: impl IntoIterator<Item = P>,
    ) -> Result<pb::RecipientReport, Error> {
        let request = self.ask(tokio_stream::iter(parts(id, pieces)));
        answer(self.client().upload_sms_recipients(request).await).map(|r| r.report.unwrap())
    }

    /// Moves the clock in small steps until the condition holds.
    pub(crate) async fn pass_time_until<F, Fut>(&self, mut condition: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let clock = self.platform.manual_clock();
        eventually(PATIENCE, || {
            clock.advance(SignedDuration::from_millis(50));
            condition()
        })
        .await;
    }

    /// Moves the clock until the schedule has ended, and gives its progress then.
    pub(crate) async fn play_to_end(&self, id: &str) -> pb::GetSmsProgressResponse {
        self.pass_time_until(|| async { self.progress(id).await.finished_at.is_some() })
            .await;
        self.progress(id).await
    }

    pub(crate) fn journal(&self) -> Vec<SubmitRecord> {
        simulator_journal(&self.config.simulator.journal).unwrap()
    }

    /// Asserts that each number was given to the provider exactly once.
    pub(crate) fn assert_sent_once<S: AsRef<str>>(&self, numbers: &[S]) {
        let mut given: Vec<String> = self.journal().into_iter().map(|r| r.to).collect();
        let mut expected: Vec<String> = numbers.iter().map(|n| n.as_ref().to_owned()).collect();
        given.sort();
        expected.sort();
        assert_eq!(given, expected);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // After a failed assertion: a runtime must not be dropped within another one.
        for running in self.replicas.drain(..).flatten() {
            running.runtime.shutdown_background();
        }
    }
}

/// The messages of a whole upload.
pub(crate) fn parts<P: AsRef<[u8]>>(
    id: &str,
    pieces: impl IntoIterator<Item = P>,
) -> Vec<pb::UploadSmsRecipientsRequest> {
    let mut parts = vec![Part::ScheduleId(id.to_owned())];
    parts.extend(
        pieces
            .into_iter()
            .map(|piece| Part::Chunk(piece.as_ref().to_vec())),
    );
    parts.push(Part::Complete(true));
    parts
        .into_iter()
        .map(|part| pb::UploadSmsRecipientsRequest { part: Some(part) })
        .collect()
}

/// What a call gave.
pub(crate) fn answer<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Error> {
    result
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::from_status(&status))
}

/// `count` valid South African mobile numbers.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("+2782{n:07}")).collect()
}
