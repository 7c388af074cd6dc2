//! Brings events from notify-service to a socket, and takes the stream up again where it broke.

use std::sync::atomic::Ordering;
use std::time::Duration;

use platform::grpc::client::as_user;
use platform::{Error, Kind};
use proto::notify::v1::subscribe_response::Frame;
use proto::notify::v1::{StreamEvent, SubscribeRequest};
use tokio::sync::mpsc;
use tonic::Status;

use super::{BAD_FRAME, End, INTERNAL, Line, NOT_AUTHENTICATED, POSITION_LOST, frames};
use crate::app::App;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A client that does not take an event for this long loses its place upstream until it does; what it has not got is
/// read again then. So the unread events of slow clients fill no buffers that others need.
const PATIENCE: Duration = Duration::from_secs(1);
/// Times in a row that numbers may be missing before it is not worth asking again.
const MOST_GAPS: u32 = 5;

/// One user's events on their way to one socket.
pub(super) struct Pump<'a> {
    app: &'a App,
    line: &'a Line,
    out: mpsc::Sender<String>,
    /// What the client said it has.
    after: Option<i64>,
    /// Number of the last event that went out.
    last: Option<i64>,
    is_ready: bool,
    gaps: u32,
    pause: Duration,
}

/// Why one subscription ended.
enum Break {
    /// It broke; subscribe again after a pause.
    Again,
    /// The client is slow; subscribe again when it has caught up.
    Stalled,
    /// The socket ends too.
    Over(End),
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        app: &'a App,
        line: &'a Line,
        after: Option<i64>,
        out: mpsc::Sender<String>,
    ) -> Self {
        Self {
            app,
            line,
            out,
            after,
            last: None,
            is_ready: false,
            gaps: 0,
            pause: FIRST_PAUSE,
        }
    }

    /// Runs until the socket must end.
    pub(super) async fn run(mut self) -> End {
        loop {
            match self.follow().await {
                Break::Over(end) => return end,
                Break::Stalled => {
                    if self
                        .out
                        .reserve_many(self.out.max_capacity())
                        .await
                        .is_err()
                    {
                        return End::Gone;
                    }
                }
                Break::Again => {
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Follows one subscription to its end.
    async fn follow(&mut self) -> Break {
        let token = self.line.user.borrow().token.clone();
        let message = SubscribeRequest {
            after: self.last.or(self.after),
            device_id: self.line.device_id.clone(),
        };
        let mut notify = self.app.clients.notify_stream();
        let mut stream = match notify.subscribe(as_user(message, &token)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return self.judge(&status, &token),
        };
        loop {
            let frame = match stream.message().await {
                Ok(Some(response)) => response.frame,
                Ok(None) => return Break::Again,
                Err(status) => return self.judge(&status, &token),
            };
            let taken = match frame {
                Some(Frame::Ready(ready)) => self.ready(ready.seq).await,
                Some(Frame::Event(event)) => self.event(&event).await,
                None => Ok(()),
            };
            if let Err(reason) = taken {
                return reason;
            }
        }
    }

    /// What a refusal means for the socket.
    fn judge(&self, status: &Status, token: &str) -> Break {
        let error = Error::from_status(status);
        match error.kind() {
            Kind::Conflict if error.reason() == "stream_position_lost" => {
                Break::Over(End::close(POSITION_LOST, "stream_position_lost"))
            }
            // A newer token may have come meanwhile.
            Kind::Unauthenticated if *self.line.user.borrow().token != *token => Break::Again,
            Kind::Unauthenticated | Kind::PermissionDenied => {
                Break::Over(End::close(NOT_AUTHENTICATED, error.reason()))
            }
            Kind::InvalidArgument => Break::Over(End::close(BAD_FRAME, error.reason())),
            _ => {
                tracing::debug!(%error, "a stream broke and is taken up again");
                Break::Again
            }
        }
    }

    async fn ready(&mut self, seq: i64) -> Result<(), Break> {
        self.pause = FIRST_PAUSE;
        self.line.head.fetch_max(seq, Ordering::Relaxed);
        if self.is_ready {
            return Ok(());
        }
        self.send(frames::ready(seq)).await?;
        self.is_ready = true;
        Ok(())
    }

    async fn event(&mut self, event: &StreamEvent) -> Result<(), Break> {
        // After 0 and after an acknowledgement that we do not know, any number may be the first.
        let before = self.last.or(self.after.filter(|after| *after > 0));
        match before {
            Some(before) if event.seq <= before => return Ok(()),
            Some(before) if event.seq > before + 1 => {
                self.gaps += 1;
                tracing::warn!(
                    stream.seq = event.seq,
                    stream.after = before,
                    "numbers are missing"
                );
                return Err(if self.gaps > MOST_GAPS {
                    Break::Over(End::close(INTERNAL, "internal"))
                } else {
                    Break::Again
                });
            }
            _ => {}
        }
        let span = tracing::info_span!(
            "stream-event",
            otel.kind = "producer",
            stream.seq = event.seq,
            stream.event = event.event,
        );
        if !event.traceparent.is_empty() {
            platform::telemetry::set_parent(&span, &event.traceparent);
        }
        let frame = span.in_scope(|| frames::event(event));
        self.line.head.fetch_max(event.seq, Ordering::Relaxed);
        self.send(frame).await?;
        self.last = Some(event.seq);
        self.gaps = 0;
        Ok(())
    }

    async fn send(&self, frame: String) -> Result<(), Break> {
        match tokio::time::timeout(PATIENCE, self.out.reserve()).await {
            Ok(Ok(place)) => {
                place.send(frame);
                Ok(())
            }
            Ok(Err(_)) => Err(Break::Over(End::Gone)),
            Err(_) => Err(Break::Stalled),
        }
    }
}
