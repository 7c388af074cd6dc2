//! Passes an upload on to a service while it arrives, and never lets half of one look like a whole.
//!
//! The service takes the file only once the last message says that everything was sent, and that is said only when the
//! body came to its end. When the client goes away, stalls or sends too much, the stream ends without it.
//!
//! An upload may take half an hour, so it holds none of the places of other requests: uploads have places of their own,
//! few of them for each user, and one that dawdles loses its own.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use platform::{Error, Kind};
use proto::scheduler::v1::upload_sms_recipients_request::Part;
use proto::scheduler::v1::{RecipientReport, UploadSmsRecipientsRequest};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::app::App;
use crate::config::GatewayConfig;
use crate::error::Failure;
use crate::extract::{AuthUser, body_too_slow, broken_body};

/// Bytes in one message, at most.
const CHUNK: usize = 1024 * 1024;
/// Time that the service has after the last byte may have come.
const GRACE: Duration = Duration::from_secs(60);
/// When a user with too many uploads may try again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Sends a body to scheduler-service as the recipients of a schedule.
///
/// # Errors
/// Those of the service; 429 `too_many_uploads`, 503 `overloaded` when there is no place; 408 when the client stalls or
/// dawdles, 413 when it sends too much, 400 when it goes away.
pub(crate) async fn recipients(
    app: &App,
    user: &AuthUser,
    schedule_id: String,
    body: Body,
) -> Result<Option<RecipientReport>, Failure> {
    let door = &app.door;
    let seat = door.uploaders.enter(user.0.user_id);
    let _seat = seat.ok_or_else(too_many_uploads)?;
    let place = door.uploads.try_acquire();
    let _place = place.map_err(|_| Failure::overloaded())?;

    let (fault, faulted) = oneshot::channel();
    let source = Source {
        body,
        rest: Bytes::new(),
        pace: Pace::new(&app.config),
        fault,
    };
    let mut request = user.request(source.into_stream(schedule_id));
    request.set_timeout(Duration::from_millis(app.config.upload_timeout_ms) + GRACE);
    let mut scheduler = app.clients.scheduler();
    tokio::select! {
        biased;
        Ok(failure) = faulted => Err(failure),
        reply = scheduler.upload_sms_recipients(request) => Ok(reply?.into_inner().report),
    }
}

fn too_many_uploads() -> Failure {
    Error::new(
        Kind::RateLimited,
        "too_many_uploads",
        "other uploads of yours are under way; wait until one has ended",
    )
    .with_retry_after(TRY_AGAIN)
    .into()
}

/// A body on its way to a service.
struct Source {
    body: Body,
    rest: Bytes,
    pace: Pace,
    /// Told before the stream ends without its last message.
    fault: oneshot::Sender<Failure>,
}

impl Source {
    /// The messages of the upload. The last one says that all bytes were sent; after a fault it does not come.
    fn into_stream(
        self,
        schedule_id: String,
    ) -> impl Stream<Item = UploadSmsRecipientsRequest> + Send + 'static {
        let rest = stream::unfold(Some(self), |source| async move {
            let mut source = source?;
            match source.next_chunk().await {
                Ok(Some(chunk)) => Some((Part::Chunk(chunk.into()), Some(source))),
                Ok(None) => Some((Part::Complete(true), None)),
                Err(failure) => {
                    // Nobody listens any more: then the call is over anyway.
                    let _ = source.fault.send(failure);
                    None
                }
            }
        });
        stream::iter([Part::ScheduleId(schedule_id)])
            .chain(rest)
            .map(|part| UploadSmsRecipientsRequest { part: Some(part) })
    }

    /// The next bytes; `None` when the body came to its end.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        while self.rest.is_empty() {
            match tokio::time::timeout_at(self.pace.until(), self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    self.rest = frame.into_data().unwrap_or_default();
                    self.pace.came(self.rest.len());
                }
                Ok(Some(Err(error))) => return Err(broken_body(&error)),
                Err(_) => return Err(body_too_slow()),
            }
        }
        let length = self.rest.len().min(CHUNK);
        Ok(Some(self.rest.split_to(length)))
    }
}

/// How long a client may take.
struct Pace {
    begun: Instant,
    longest: Duration,
    idle: Duration,
    grace: Duration,
    bytes_per_second: u64,
    received: u64,
}

impl Pace {
    fn new(config: &GatewayConfig) -> Self {
        Self {
            begun: Instant::now(),
            longest: Duration::from_millis(config.upload_timeout_ms),
            idle: Duration::from_millis(config.upload_idle_timeout_ms),
            grace: Duration::from_millis(config.upload_grace_ms),
            bytes_per_second: config.upload_min_bytes_per_second.max(1),
            received: 0,
        }
    }

    fn came(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    /// When the next bytes must have come: soon, before the whole takes too long, and before the average is too low.
    fn until(&self) -> Instant {
        let earned = self.received.saturating_mul(1_000) / self.bytes_per_second;
        let slowest = self.grace.max(Duration::from_millis(earned));
        (Instant::now() + self.idle).min(self.begun + self.longest.min(slowest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_asked_for_after_a_while_and_on_average() {
        let mut pace = Pace::new(&GatewayConfig {
            upload_idle_timeout_ms: 3_600_000,
            ..GatewayConfig::default()
        });
        let after = |pace: &Pace| (pace.until() - pace.begun).as_secs();
        assert_eq!(after(&pace), 30);
        pace.came(1_024);
        assert_eq!(after(&pace), 30);
        pace.came(9 * 1_024);
        assert_eq!(after(&pace), 100);
        pace.came(256 << 20);
        assert_eq!(after(&pace), 1_800);
    }
}
