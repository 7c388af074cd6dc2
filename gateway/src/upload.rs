//! Passes an upload on to a service while it arrives, and never lets half of one look like a whole.
//!
//! To the service the end of the stream means that everything is there. So when the client goes away, stalls or sends too
//! much, the stream must break and not end: [`Breakable`] resets it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{FutureExt, Stream, stream};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame};
use platform::grpc::client::GrpcChannel;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use proto::scheduler::v1::upload_sms_recipients_request::Part;
use proto::scheduler::v1::{RecipientReport, UploadSmsRecipientsRequest};
use tokio::sync::oneshot;
use tonic::Status;
use tower::Service;

use crate::app::App;
use crate::error::Failure;
use crate::extract::{AuthUser, body_too_slow, broken_body};

/// Bytes in one message, at most.
const CHUNK: usize = 1024 * 1024;

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
    let idle = Duration::from_millis(app.config.upload_idle_timeout_ms);
    let (fault, mut faulted) = oneshot::channel();
    // Dropped when this function returns, in whatever way: that breaks the stream unless it has ended.
    let (_whole, broken) = oneshot::channel();
    let channel = Breakable { inner: app.clients.scheduler_channel(), broken: Some(broken) };
    let mut request = user.request(parts(schedule_id, body, idle, fault));
    request.set_timeout(Duration::from_millis(app.config.upload_timeout_ms));

    let mut scheduler = SchedulerClient::new(channel);
    let upload = scheduler.upload_sms_recipients(request);
    tokio::select! {
        biased;
        Ok(failure) = &mut faulted => Err(failure),
        reply = upload => Ok(reply?.into_inner().report),
    }
}

struct Source {
    schedule_id: Option<String>,
    body: Body,
    rest: Bytes,
    idle: Duration,
    fault: Option<oneshot::Sender<Failure>>,
}

/// The messages of an upload. Ends only when the body has come to its end; after a fault it is silent for ever.
fn parts(
    schedule_id: String,
    body: Body,
    idle: Duration,
    fault: oneshot::Sender<Failure>,
) -> impl Stream<Item = UploadSmsRecipientsRequest> + Send + 'static {
    let source = Source {
        schedule_id: Some(schedule_id),
        body,
        rest: Bytes::new(),
        idle,
        fault: Some(fault),
    };
    stream::unfold(source, |mut source| async move {
        let part = match source.schedule_id.take() {
            Some(id) => Part::ScheduleId(id),
            None => Part::Chunk(source.next_chunk().await?.into()),
        };
        Some((UploadSmsRecipientsRequest { part: Some(part) }, source))
    })
}

impl Source {
    async fn next_chunk(&mut self) -> Option<Bytes> {
        while self.rest.is_empty() {
            let failure = match tokio::time::timeout(self.idle, self.body.frame()).await {
                Ok(None) => return None,
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
        std::future::pending().await
    }
}

/// A channel whose one call is reset when the other end of `broken` is dropped.
struct Breakable {
    inner: GrpcChannel,
    broken: Option<oneshot::Receiver<Infallible>>,
}

impl Service<http::Request<tonic::body::Body>> for Breakable {
    type Response = http::Response<tonic::body::Body>;
    type Error = Status;
    type Future = <GrpcChannel as Service<http::Request<tonic::body::Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let broken = self.broken.take();
        self.inner.call(request.map(|inner| match broken {
            Some(broken) => tonic::body::Body::new(BreakableBody { inner, broken }),
            None => inner,
        }))
    }
}

struct BreakableBody {
    inner: tonic::body::Body,
    broken: oneshot::Receiver<Infallible>,
}

impl HttpBody for BreakableBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.broken.poll_unpin(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::cancelled("the upload broke off"))));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }
}
