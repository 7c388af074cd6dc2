//! Passes an upload on to a service while it arrives, and never lets half of one look like a whole.
//!
//! To the service the end of the stream means that everything is there. So when the client goes away, stalls or sends too
//! much, the stream must break and not end. Dropping the call is not enough: that cancels it, and tonic shows a cancelled
//! stream to its reader as one that has ended. [`Breakable`] makes the body fail, which resets the stream as an error; and
//! a task of its own keeps the call until that has happened, even if the handler is dropped.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt, Stream, stream};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame};
use platform::Error;
use platform::grpc::client::GrpcChannel;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use proto::scheduler::v1::upload_sms_recipients_request::Part;
use proto::scheduler::v1::{RecipientReport, UploadSmsRecipientsRequest};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;
use tower::Service;
use tracing::Instrument;

use crate::app::App;
use crate::error::Failure;
use crate::extract::{AuthUser, body_too_slow, broken_body};

/// Bytes in one message, at most.
const CHUNK: usize = 1024 * 1024;
/// Time that the service has after the last byte may have come.
const GRACE: Duration = Duration::from_secs(60);

/// Sends a body to scheduler-service as the recipients of a schedule.
///
/// # Errors
/// Those of the service; 408 when the client stalls, 413 when it sends too much, 400 when it goes away.
pub(crate) async fn recipients(
    app: &App,
    user: &AuthUser,
    schedule_id: String,
    body: Body,
) -> Result<Option<RecipientReport>, Failure> {
    let limit = Duration::from_millis(app.config.upload_timeout_ms);
    let (fault, faulted) = oneshot::channel();
    let (alive, broken) = oneshot::channel();
    // Dropped with this function, in whatever way: that breaks the stream unless it has ended.
    let (_wanted, abandoned) = oneshot::channel();
    let (answer, answered) = oneshot::channel();
    let source = Source {
        schedule_id: Some(schedule_id),
        body,
        rest: Bytes::new(),
        idle: Duration::from_millis(app.config.upload_idle_timeout_ms),
        deadline: Instant::now() + limit,
        fault: Some(fault),
        alive: Some(alive),
    };
    let channel = app.clients.scheduler_channel();
    let ends = Some(Ends {
        broken: Some(broken),
        abandoned,
    });
    let mut scheduler = SchedulerClient::new(Breakable {
        inner: channel,
        ends,
    });
    let mut request = user.request(source.into_stream());
    request.set_timeout(limit + GRACE);
    let upload = async move {
        // Nobody waits any more when the handler was dropped.
        let _ = answer.send(scheduler.upload_sms_recipients(request).await);
    };
    app.tasks.spawn("gateway-upload", upload.in_current_span());
    tokio::select! {
        biased;
        Ok(failure) = faulted => Err(failure),
        answer = answered => match answer {
            Ok(reply) => Ok(reply?.into_inner().report),
            Err(_) => Err(Error::internal(anyhow::anyhow!("the upload panicked")).into()),
        },
    }
}

/// A body on its way to a service.
struct Source {
    schedule_id: Option<String>,
    body: Body,
    rest: Bytes,
    idle: Duration,
    deadline: Instant,
    fault: Option<oneshot::Sender<Failure>>,
    alive: Option<oneshot::Sender<Whole>>,
}

impl Source {
    /// The messages of the upload. Ends only when the body has come to its end; after a fault it is silent for ever.
    fn into_stream(self) -> impl Stream<Item = UploadSmsRecipientsRequest> + Send + 'static {
        stream::unfold(self, |mut source| async move {
            let part = match source.schedule_id.take() {
                Some(id) => Part::ScheduleId(id),
                None => Part::Chunk(source.next_chunk().await?.into()),
            };
            Some((UploadSmsRecipientsRequest { part: Some(part) }, source))
        })
    }

    async fn next_chunk(&mut self) -> Option<Bytes> {
        while self.rest.is_empty() {
            let until = self.deadline.min(Instant::now() + self.idle);
            let failure = match tokio::time::timeout_at(until, self.body.frame()).await {
                Ok(None) => {
                    if let Some(alive) = self.alive.take() {
                        // Nobody reads the stream any more when this fails.
                        let _ = alive.send(Whole);
                    }
                    return None;
                }
                Ok(Some(Ok(frame))) => {
                    self.rest = frame.into_data().unwrap_or_default();
                    continue;
                }
                Ok(Some(Err(error))) => broken_body(&error),
                Err(_) => body_too_slow(),
            };
            match self.break_off(failure).await {}
        }
        let length = self.rest.len().min(CHUNK);
        Some(self.rest.split_to(length))
    }

    async fn break_off(&mut self, failure: Failure) -> Infallible {
        if let Some(fault) = self.fault.take() {
            // Nobody listens any more: then the call is over anyway.
            let _ = fault.send(failure);
        }
        self.alive = None;
        std::future::pending().await
    }
}

/// That everything has been read.
struct Whole;

/// What breaks an upload when its other end is dropped.
struct Ends {
    /// Held by the source of the messages, until a fault. Gone once everything has been read.
    broken: Option<oneshot::Receiver<Whole>>,
    /// Held by the handler.
    abandoned: oneshot::Receiver<Infallible>,
}

/// A channel whose one call breaks with its [`Ends`].
struct Breakable {
    inner: GrpcChannel,
    ends: Option<Ends>,
}

impl Service<http::Request<tonic::body::Body>> for Breakable {
    type Response = http::Response<tonic::body::Body>;
    type Error = Status;
    type Future = <GrpcChannel as Service<http::Request<tonic::body::Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let ends = self.ends.take();
        self.inner.call(request.map(|inner| match ends {
            Some(ends) => tonic::body::Body::new(BreakableBody { inner, ends }),
            None => inner,
        }))
    }
}

struct BreakableBody {
    inner: tonic::body::Body,
    ends: Ends,
}

impl HttpBody for BreakableBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Ends { broken, abandoned } = &mut self.ends;
        let source = broken.as_mut().map(|broken| broken.poll_unpin(cx));
        let is_broken = match source {
            Some(Poll::Ready(Ok(Whole))) => {
                *broken = None;
                false
            }
            Some(Poll::Ready(Err(_))) => true,
            Some(Poll::Pending) | None => false,
        };
        if is_broken || abandoned.poll_unpin(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::internal("the upload broke off"))));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }
}
