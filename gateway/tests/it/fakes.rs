//! Stand-ins for the services: they record requests and answer what the test told them to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use platform::Tasks;
use platform::grpc::replayed;
use platform::principal::{self, Principal};
use proto::identity::v1 as id;
use proto::identity::v1::identity_server::Identity;
use proto::notify::v1 as nt;
use proto::notify::v1::notify_server::Notify;
use proto::scheduler::v1 as sc;
use proto::scheduler::v1::scheduler_server::Scheduler;
use proto::wallet::v1 as wl;
use proto::wallet::v1::wallet_server::Wallet;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// What reached the services, and what they are to do. Shared with the test.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) transfers: Mutex<Vec<wl::TransferRequest>>,
    pub(crate) deposits: Mutex<Vec<wl::DepositRequest>>,
    pub(crate) registrations: Mutex<Vec<id::RegisterRequest>>,
    pub(crate) updates: Mutex<Vec<id::UpdateProfileRequest>>,
    pub(crate) listings: Mutex<Vec<wl::ListTransactionsRequest>>,
    pub(crate) schedules: Mutex<Vec<sc::CreateSmsScheduleRequest>>,
    pub(crate) acknowledged: Mutex<Vec<(String, i64)>>,
    pub(crate) subscriptions: Mutex<Vec<nt::SubscribeRequest>>,
    /// The next answers to money calls; without any they succeed.
    pub(crate) refusals: Mutex<VecDeque<Status>>,
    /// Answers of money calls are marked as given before.
    pub(crate) replays: Mutex<bool>,
    /// How long money calls and profile reads take.
    pub(crate) delay: Mutex<Duration>,
    /// The traces that calls came with.
    pub(crate) traces: Mutex<Vec<String>>,
    pub(crate) upload: Mutex<Upload>,
    /// Streams that are open now.
    pub(crate) streams: AtomicUsize,
}

/// What became of an upload.
#[derive(Default, Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) schedule_id: String,
    pub(crate) bytes: usize,
    pub(crate) largest_chunk: usize,
    pub(crate) hash: u64,
    pub(crate) complete: bool,
    pub(crate) ended: bool,
    pub(crate) broke: bool,
}

impl Seen {
    async fn note<T>(&self, call: &str, request: &Request<T>) {
        self.calls.lock().unwrap().push(call.to_owned());
        if let Some(trace) = request.metadata().get("traceparent") {
            self.traces
                .lock()
                .unwrap()
                .push(trace.to_str().unwrap().to_owned());
        }
        let delay = *self.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    pub(crate) fn count(&self, call: &str) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|one| *one == call)
            .count()
    }

    fn money<T>(&self, message: T) -> Answer<T> {
        let is_replay = *self.replays.lock().unwrap();
        match self.refusals.lock().unwrap().pop_front() {
            Some(status) if is_replay => Err(platform::grpc::replayed_status(status)),
            Some(status) => Err(status),
            None if is_replay => Ok(replayed(Response::new(message))),
            None => Ok(Response::new(message)),
        }
    }
}

#[derive(Clone)]
pub(crate) struct FakeIdentity(pub(crate) Arc<Seen>);

fn user() -> id::User {
    id::User {
        id: uuid::Uuid::from_u128(7).to_string(),
        handle: "asha".into(),
        first_name: "Asha".into(),
        last_name: "Rao".into(),
        email: "asha@example.org".into(),
        role: "user".into(),
        version: 3,
        created_at: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        ..id::User::default()
    }
}

fn tokens() -> id::TokenPair {
    id::TokenPair {
        access_token: "a.b.c".into(),
        expires_in: 900,
        refresh_token: "r".into(),
        refresh_expires_at: None,
    }
}

#[tonic::async_trait]
impl Identity for FakeIdentity {
    type WatchRevocationsStream = BoxStream<'static, Result<id::WatchRevocationsResponse, Status>>;

    async fn register(&self, r: Request<id::RegisterRequest>) -> Answer<id::RegisterResponse> {
        principal::service(&r)?;
        self.0.note("register", &r).await;
        self.0.registrations.lock().unwrap().push(r.into_inner());
        self.0.money(id::RegisterResponse { user: Some(user()) })
    }
    async fn login(&self, r: Request<id::LoginRequest>) -> Answer<id::LoginResponse> {
        principal::service(&r)?;
        self.0.note("login", &r).await;
        self.0.money(id::LoginResponse {
            tokens: Some(tokens()),
            user: Some(user()),
        })
    }
    async fn refresh(&self, r: Request<id::RefreshRequest>) -> Answer<id::RefreshResponse> {
        self.0.note("refresh", &r).await;
        Ok(Response::new(id::RefreshResponse {
            tokens: Some(tokens()),
            user: Some(user()),
        }))
    }
    async fn logout(&self, r: Request<id::LogoutRequest>) -> Answer<id::LogoutResponse> {
        self.0.note("logout", &r).await;
        Ok(Response::new(id::LogoutResponse {}))
    }
    async fn logout_all(&self, r: Request<id::LogoutAllRequest>) -> Answer<id::LogoutAllResponse> {
        principal::user(&r)?;
        self.0.note("logout_all", &r).await;
        Ok(Response::new(id::LogoutAllResponse { ended: 2 }))
    }
    async fn verify_email(
        &self,
        r: Request<id::VerifyEmailRequest>,
    ) -> Answer<id::VerifyEmailResponse> {
        self.0.note("verify_email", &r).await;
        Ok(Response::new(id::VerifyEmailResponse {
            user: Some(user()),
        }))
    }
    async fn resend_verification(
        &self,
        r: Request<id::ResendVerificationRequest>,
    ) -> Answer<id::ResendVerificationResponse> {
        self.0.note("resend_verification", &r).await;
        Ok(Response::new(id::ResendVerificationResponse {}))
    }
    async fn get_profile(
        &self,
        r: Request<id::GetProfileRequest>,
    ) -> Answer<id::GetProfileResponse> {
        principal::user(&r)?;
        self.0.note("get_profile", &r).await;
        Ok(Response::new(id::GetProfileResponse { user: Some(user()) }))
    }
    async fn update_profile(
        &self,
        r: Request<id::UpdateProfileRequest>,
    ) -> Answer<id::UpdateProfileResponse> {
        self.0.note("update_profile", &r).await;
        self.0.updates.lock().unwrap().push(r.into_inner());
        self.0
            .money(id::UpdateProfileResponse { user: Some(user()) })
    }
    async fn search_users(
        &self,
        r: Request<id::SearchUsersRequest>,
    ) -> Answer<id::SearchUsersResponse> {
        self.0.note("search_users", &r).await;
        if r.get_ref().query.chars().count() < 2 {
            return Err(platform::Error::invalid_field("query", "is too short").into());
        }
        Ok(Response::new(id::SearchUsersResponse::default()))
    }
    async fn get_jwks(&self, r: Request<id::GetJwksRequest>) -> Answer<id::GetJwksResponse> {
        principal::service(&r)?;
        self.0.note("get_jwks", &r).await;
        Ok(Response::new(id::GetJwksResponse {
            jwks_json: r#"{"keys":[]}"#.into(),
        }))
    }
    async fn watch_revocations(
        &self,
        _: Request<id::WatchRevocationsRequest>,
    ) -> Answer<Self::WatchRevocationsStream> {
        Err(Status::unimplemented("the platform's stand-in does this"))
    }
}

#[derive(Clone)]
pub(crate) struct FakeWallet(pub(crate) Arc<Seen>);

fn money(amount_minor: i64) -> Option<wl::Money> {
    Some(wl::Money {
        amount_minor,
        currency: "INR".into(),
    })
}

fn account() -> wl::Account {
    wl::Account {
        id: uuid::Uuid::from_u128(9).to_string(),
        currency: "INR".into(),
        posted: money(500),
        pending: money(20),
        available: money(480),
        version: 4,
        status: "open".into(),
        created_at: None,
    }
}

fn transaction(amount: Option<wl::Money>) -> Option<wl::Transaction> {
    Some(wl::Transaction {
        id: uuid::Uuid::from_u128(11).to_string(),
        kind: "transfer".into(),
        status: "posted".into(),
        direction: "out".into(),
        amount,
        from: Some(wl::Party {
            user_id: "u".into(),
            ..wl::Party::default()
        }),
        to: Some(wl::Party {
            external: "sandbox".into(),
            ..wl::Party::default()
        }),
        category: "food".into(),
        created_at: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 500_000_000,
        }),
        ..wl::Transaction::default()
    })
}

#[tonic::async_trait]
impl Wallet for FakeWallet {
    async fn list_accounts(
        &self,
        r: Request<wl::ListAccountsRequest>,
    ) -> Answer<wl::ListAccountsResponse> {
        self.0.note("list_accounts", &r).await;
        self.0.money(wl::ListAccountsResponse {
            accounts: vec![account()],
        })
    }
    async fn open_account(
        &self,
        r: Request<wl::OpenAccountRequest>,
    ) -> Answer<wl::OpenAccountResponse> {
        self.0.note("open_account", &r).await;
        self.0.money(wl::OpenAccountResponse {
            account: Some(account()),
        })
    }
    async fn get_account(
        &self,
        r: Request<wl::GetAccountRequest>,
    ) -> Answer<wl::GetAccountResponse> {
        self.0.note("get_account", &r).await;
        Ok(Response::new(wl::GetAccountResponse {
            account: Some(account()),
        }))
    }
    async fn deposit(&self, r: Request<wl::DepositRequest>) -> Answer<wl::DepositResponse> {
        self.0.note("deposit", &r).await;
        let amount = r.get_ref().amount.clone();
        self.0.deposits.lock().unwrap().push(r.into_inner());
        self.0.money(wl::DepositResponse {
            transaction: transaction(amount),
        })
    }
    async fn transfer(&self, r: Request<wl::TransferRequest>) -> Answer<wl::TransferResponse> {
        principal::fresh_user(&r)?;
        self.0.note("transfer", &r).await;
        let amount = r.get_ref().amount.clone();
        self.0.transfers.lock().unwrap().push(r.into_inner());
        self.0.money(wl::TransferResponse {
            transaction: transaction(amount),
        })
    }
    async fn list_transactions(
        &self,
        r: Request<wl::ListTransactionsRequest>,
    ) -> Answer<wl::ListTransactionsResponse> {
        self.0.note("list_transactions", &r).await;
        self.0.listings.lock().unwrap().push(r.into_inner());
        Ok(Response::new(wl::ListTransactionsResponse {
            transactions: transaction(money(5)).into_iter().collect(),
            next_cursor: "next".into(),
        }))
    }
    async fn get_transaction(
        &self,
        r: Request<wl::GetTransactionRequest>,
    ) -> Answer<wl::GetTransactionResponse> {
        self.0.note("get_transaction", &r).await;
        Err(platform::Error::not_found("transaction").into())
    }
    async fn list_categories(
        &self,
        r: Request<wl::ListCategoriesRequest>,
    ) -> Answer<wl::ListCategoriesResponse> {
        self.0.note("list_categories", &r).await;
        Ok(Response::new(wl::ListCategoriesResponse {
            categories: vec!["food".into()],
        }))
    }
}

/// notify-service: each user's stream is the numbers 1 to `head`, which the test moves.
#[derive(Clone)]
pub(crate) struct FakeNotify {
    pub(crate) seen: Arc<Seen>,
    /// Number of the newest event.
    pub(crate) head: watch::Sender<i64>,
    /// Open streams end when this changes.
    pub(crate) cut: watch::Sender<u64>,
    /// Numbers below this are no longer kept.
    pub(crate) first_kept: Arc<Mutex<i64>>,
    /// Bytes of filling in each event.
    pub(crate) filling: Arc<Mutex<usize>>,
    tasks: Tasks,
}

impl FakeNotify {
    pub(crate) fn new(seen: Arc<Seen>, tasks: Tasks) -> Self {
        Self {
            seen,
            tasks,
            head: watch::Sender::new(0),
            cut: watch::Sender::new(0),
            first_kept: Arc::new(Mutex::new(1)),
            filling: Arc::default(),
        }
    }
}

fn event(seq: i64, filling: usize) -> nt::SubscribeResponse {
    let data = serde_json::json!({"n": seq, "filling": "x".repeat(filling)});
    nt::SubscribeResponse {
        frame: Some(nt::subscribe_response::Frame::Event(nt::StreamEvent {
            seq,
            topic: "balance".into(),
            event: "balance.updated".into(),
            at: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            data_json: data.to_string(),
            traceparent: String::new(),
        })),
    }
}

#[tonic::async_trait]
impl Notify for FakeNotify {
    type SubscribeStream = BoxStream<'static, Result<nt::SubscribeResponse, Status>>;

    async fn list_notifications(
        &self,
        r: Request<nt::ListNotificationsRequest>,
    ) -> Answer<nt::ListNotificationsResponse> {
        self.seen
            .note(&format!("list_notifications {:?}", r.get_ref().unread), &r)
            .await;
        Ok(Response::new(nt::ListNotificationsResponse::default()))
    }
    async fn get_unread_count(
        &self,
        r: Request<nt::GetUnreadCountRequest>,
    ) -> Answer<nt::GetUnreadCountResponse> {
        self.seen.note("get_unread_count", &r).await;
        Ok(Response::new(nt::GetUnreadCountResponse { unread: 3 }))
    }
    async fn mark_notification(
        &self,
        r: Request<nt::MarkNotificationRequest>,
    ) -> Answer<nt::MarkNotificationResponse> {
        self.seen.note("mark_notification", &r).await;
        let read = r.get_ref().read;
        let notification = nt::Notification {
            read,
            ..nt::Notification::default()
        };
        Ok(Response::new(nt::MarkNotificationResponse {
            notification: Some(notification),
        }))
    }
    async fn mark_all_read(
        &self,
        r: Request<nt::MarkAllReadRequest>,
    ) -> Answer<nt::MarkAllReadResponse> {
        self.seen.note("mark_all_read", &r).await;
        Ok(Response::new(nt::MarkAllReadResponse { marked: 3 }))
    }
    async fn delete_notification(
        &self,
        r: Request<nt::DeleteNotificationRequest>,
    ) -> Answer<nt::DeleteNotificationResponse> {
        self.seen.note("delete_notification", &r).await;
        Ok(Response::new(nt::DeleteNotificationResponse {}))
    }
    async fn send_test(&self, r: Request<nt::SendTestRequest>) -> Answer<nt::SendTestResponse> {
        self.seen.note("send_test", &r).await;
        Ok(Response::new(nt::SendTestResponse::default()))
    }

    async fn subscribe(&self, r: Request<nt::SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        let _: Principal = principal::user(&r)?;
        let request = r.into_inner();
        let after = request.after.unwrap_or(0);
        let first_kept = *self.first_kept.lock().unwrap();
        self.seen.subscriptions.lock().unwrap().push(request);
        if after > 0 && after + 1 < first_kept {
            let lost = platform::Error::conflict("stream_position_lost", "no longer kept");
            return Err(lost.into());
        }
        let (frames, receiver) = mpsc::channel(4);
        let mut head = self.head.subscribe();
        let mut cut = self.cut.subscribe();
        let filling = *self.filling.lock().unwrap();
        let seen = self.seen.clone();
        seen.streams.fetch_add(1, Ordering::SeqCst);
        self.tasks.spawn("fake-stream", async move {
            let gone = frames.clone();
            let newest = *head.borrow_and_update();
            let ready = nt::SubscribeResponse {
                frame: Some(nt::subscribe_response::Frame::Ready(nt::Ready {
                    seq: newest,
                })),
            };
            let tell = async {
                frames.send(Ok(ready)).await.ok()?;
                let mut next = after.max(first_kept - 1) + 1;
                loop {
                    while next <= *head.borrow() {
                        frames.send(Ok(event(next, filling))).await.ok()?;
                        next += 1;
                    }
                    head.changed().await.ok()?;
                }
            };
            let _: Option<()> = tokio::select! {
                told = tell => told,
                () = gone.closed() => None,
                _ = cut.changed() => {
                    // Sometimes a stream ends, and sometimes it breaks.
                    if cut.borrow().is_multiple_of(2) {
                        frames.send(Err(Status::unavailable("shutting down"))).await.ok()
                    } else {
                        None
                    }
                }
            };
            seen.streams.fetch_sub(1, Ordering::SeqCst);
        });
        let receiver = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        Ok(Response::new(receiver.boxed()))
    }

    async fn acknowledge(
        &self,
        r: Request<nt::AcknowledgeRequest>,
    ) -> Answer<nt::AcknowledgeResponse> {
        self.seen.note("acknowledge", &r).await;
        let request = r.into_inner();
        self.seen
            .acknowledged
            .lock()
            .unwrap()
            .push((request.device_id, request.seq));
        Ok(Response::new(nt::AcknowledgeResponse {}))
    }
}

/// Notes when an upload is over without having ended.
struct Watch(Arc<Seen>);

impl Drop for Watch {
    fn drop(&mut self) {
        let mut upload = self.0.upload.lock().unwrap();
        upload.broke = !upload.ended;
    }
}

#[derive(Clone)]
pub(crate) struct FakeScheduler(pub(crate) Arc<Seen>);

fn schedule() -> Option<sc::SmsSchedule> {
    Some(sc::SmsSchedule {
        id: "s".into(),
        status: "scheduled".into(),
        ..Default::default()
    })
}

fn report() -> Option<sc::RecipientReport> {
    Some(sc::RecipientReport {
        accepted: 2,
        duplicates: 1,
        rejected: 1,
        first_rejects: vec![sc::RejectedRecipient {
            line: 3,
            value: "x".into(),
            reason: "not_a_number".into(),
        }],
    })
}

#[tonic::async_trait]
impl Scheduler for FakeScheduler {
    async fn create_sms_schedule(
        &self,
        r: Request<sc::CreateSmsScheduleRequest>,
    ) -> Answer<sc::CreateSmsScheduleResponse> {
        self.0.note("create_sms_schedule", &r).await;
        self.0.schedules.lock().unwrap().push(r.into_inner());
        self.0.money(sc::CreateSmsScheduleResponse {
            schedule: schedule(),
            report: report(),
        })
    }

    async fn upload_sms_recipients(
        &self,
        r: Request<tonic::Streaming<sc::UploadSmsRecipientsRequest>>,
    ) -> Answer<sc::UploadSmsRecipientsResponse> {
        use sc::upload_sms_recipients_request::Part;
        self.0.note("upload_sms_recipients", &r).await;
        let mut parts = r.into_inner();
        // A call that is reset is dropped where it stands.
        let _watch = Watch(self.0.clone());
        loop {
            match parts.message().await {
                Ok(Some(part)) => {
                    let mut upload = self.0.upload.lock().unwrap();
                    match part.part {
                        Some(Part::ScheduleId(id)) => upload.schedule_id = id,
                        Some(Part::Chunk(chunk)) => {
                            upload.bytes += chunk.len();
                            upload.largest_chunk = upload.largest_chunk.max(chunk.len());
                            for byte in chunk {
                                upload.hash =
                                    upload.hash.wrapping_mul(31).wrapping_add(u64::from(byte));
                            }
                        }
                        Some(Part::Complete(_)) => upload.complete = true,
                        None => return Err(Status::invalid_argument("an empty part")),
                    }
                    if upload.schedule_id == uuid::Uuid::nil().to_string() {
                        return Err(platform::Error::not_found("schedule").into());
                    }
                }
                Ok(None) => {
                    let mut upload = self.0.upload.lock().unwrap();
                    if !upload.complete {
                        let refusal = platform::Error::conflict("upload_incomplete", "cut off");
                        return Err(refusal.into());
                    }
                    upload.ended = true;
                    return Ok(Response::new(sc::UploadSmsRecipientsResponse {
                        report: report(),
                    }));
                }
                Err(status) => return Err(status),
            }
        }
    }

    async fn list_sms_schedules(
        &self,
        r: Request<sc::ListSmsSchedulesRequest>,
    ) -> Answer<sc::ListSmsSchedulesResponse> {
        self.0.note("list_sms_schedules", &r).await;
        Ok(Response::new(sc::ListSmsSchedulesResponse::default()))
    }
    async fn get_sms_schedule(
        &self,
        r: Request<sc::GetSmsScheduleRequest>,
    ) -> Answer<sc::GetSmsScheduleResponse> {
        self.0.note("get_sms_schedule", &r).await;
        Ok(Response::new(sc::GetSmsScheduleResponse {
            schedule: schedule(),
        }))
    }
    async fn get_sms_progress(
        &self,
        r: Request<sc::GetSmsProgressRequest>,
    ) -> Answer<sc::GetSmsProgressResponse> {
        self.0.note("get_sms_progress", &r).await;
        Ok(Response::new(sc::GetSmsProgressResponse {
            total: 3,
            by_state: [("DELIVRD".to_owned(), 3)].into(),
            status: "finished".into(),
            ..Default::default()
        }))
    }
    async fn list_sms_messages(
        &self,
        r: Request<sc::ListSmsMessagesRequest>,
    ) -> Answer<sc::ListSmsMessagesResponse> {
        self.0.note("list_sms_messages", &r).await;
        Ok(Response::new(sc::ListSmsMessagesResponse::default()))
    }
    async fn cancel_sms_schedule(
        &self,
        r: Request<sc::CancelSmsScheduleRequest>,
    ) -> Answer<sc::CancelSmsScheduleResponse> {
        self.0.note("cancel_sms_schedule", &r).await;
        Ok(Response::new(sc::CancelSmsScheduleResponse {
            schedule: schedule(),
        }))
    }
}
