//! One socket, from hello to goodbye.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use platform::{Error, Kind};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tracing::Instrument;
use uuid::Uuid;

use super::frames::{self, ClientFrame};
use super::pump::Pump;
use super::{
    End, GOING_AWAY, Line, NO_HELLO, NOT_AUTHENTICATED, TOO_MANY, TOO_SLOW, TRY_AGAIN_LATER,
    acknowledge, guard,
};
use crate::app::App;
use crate::edge::Place;
use crate::edge::door;
use crate::error::Failure;
use crate::seats::Seat;

type Sink = SplitSink<WebSocket, Message>;
type Source = SplitStream<WebSocket>;

/// Pings in a row that may stay unanswered.
const MOST_UNANSWERED: u32 = 2;
/// Frames that are written together, at most.
const BATCH: usize = 64;
/// Longest that saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves one socket to its end. `place` is the connection's place among those that may be open.
pub(crate) async fn run(app: App, socket: WebSocket, place: Option<Arc<Place>>) {
    let (mut sink, mut source) = socket.split();
    let end = attend(&app, &mut sink, &mut source).await;
    if timeout(GOODBYE, part(&mut sink, &mut source, end))
        .await
        .is_err()
    {
        tracing::debug!("a client did not hear our goodbye");
    }
    drop(place);
}

async fn attend(app: &App, sink: &mut Sink, source: &mut Source) -> End {
    // Before the token is checked, so that no revocation falls in between.
    let news = app.door.authenticator.revocations.subscribe();
    let hello_within = Duration::from_millis(app.config.stream.hello_timeout_ms);
    let stop = app.tasks.token();
    let hello = tokio::select! {
        hello = timeout(hello_within, first_frame(source)) => hello,
        () = stop.cancelled() => return End::close(GOING_AWAY, "shutting_down"),
    };
    let opened = match hello {
        Ok(Ok(frame)) => open(app, frame),
        Ok(Err(end)) => Err(end),
        Err(_) => Err(End::close(NO_HELLO, "no_hello")),
    };
    let (line, after, _seat) = match opened {
        Ok(opened) => opened,
        Err(end) => return end,
    };
    let span = tracing::info_span!("socket", user.id = %line.user.borrow().user_id);
    async {
        let (out, frames) = mpsc::channel(app.config.stream.buffer);
        let end = tokio::select! {
            end = Pump::new(app, &line, after, out).run() => end,
            end = write(app, &line, sink, frames) => end,
            end = listen(app, &line, source) => end,
            end = guard::watch(app, &line, news) => end,
            never = acknowledge::forward(app, &line) => match never {},
        };
        acknowledge::finish(app, &line).await;
        end
    }
    .instrument(span)
    .await
}

async fn first_frame(source: &mut Source) -> Result<ClientFrame, End> {
    loop {
        match next_message(source).await? {
            Message::Text(text) => return ClientFrame::parse(&text).ok_or_else(End::bad_frame),
            Message::Binary(_) => return Err(End::bad_frame()),
            Message::Close(_) => return Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

/// Lets a client in that said hello.
fn open(app: &App, frame: ClientFrame) -> Result<(Line, Option<i64>, Seat<Uuid>), End> {
    let ClientFrame::Hello {
        token,
        after,
        device_id,
    } = frame
    else {
        return Err(End::bad_frame());
    };
    let user = door::user(app, &token).map_err(not_authenticated)?;
    app.door
        .authenticator
        .require_fresh()
        .map_err(|error| not_authenticated(error.into()))?;
    let seat = app
        .sockets
        .enter(user.user_id)
        .ok_or_else(|| End::close(TOO_MANY, "too_many_connections"))?;
    let line = Line {
        user: watch::Sender::new(user),
        device_id: device_id.unwrap_or_default(),
        head: AtomicI64::new(0),
        acknowledged: watch::Sender::new(0),
        stored: AtomicI64::new(0),
        unanswered: AtomicU32::new(0),
    };
    Ok((line, after, seat))
}

fn not_authenticated(failure: Failure) -> End {
    let error: &Error = failure.error();
    let code = match error.kind() {
        Kind::Unauthenticated => NOT_AUTHENTICATED,
        _ => TRY_AGAIN_LATER,
    };
    End::close(code, error.reason())
}

/// Reads what the client says.
async fn listen(app: &App, line: &Line, source: &mut Source) -> End {
    loop {
        let message = match next_message(source).await {
            Ok(message) => message,
            Err(end) => return end,
        };
        line.unanswered.store(0, Ordering::Relaxed);
        let heard = match message {
            Message::Text(text) => match ClientFrame::parse(&text) {
                Some(frame) => hear(app, line, frame),
                None => Err(End::bad_frame()),
            },
            Message::Binary(_) => Err(End::bad_frame()),
            Message::Close(_) => Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) => Ok(()),
        };
        if let Err(end) = heard {
            return end;
        }
    }
}

fn hear(app: &App, line: &Line, frame: ClientFrame) -> Result<(), End> {
    match frame {
        ClientFrame::Ack { seq } => {
            // Nobody can have what was not sent.
            if seq > line.head.load(Ordering::Relaxed) {
                return Err(End::bad_frame());
            }
            line.acknowledged.send_if_modified(|newest| {
                let is_newer = seq > *newest;
                *newest = seq.max(*newest);
                is_newer
            });
            Ok(())
        }
        ClientFrame::Token { token } => {
            let user = door::user(app, &token).map_err(not_authenticated)?;
            let is_same = {
                let before = line.user.borrow();
                before.user_id == user.user_id && before.session_id == user.session_id
            };
            if !is_same {
                return Err(End::close(NOT_AUTHENTICATED, "other_session"));
            }
            line.user.send_replace(user);
            Ok(())
        }
        ClientFrame::Hello { .. } => Err(End::bad_frame()),
    }
}

/// The next message. A frame that breaks the protocol or is too large is a bad one; a broken connection is not.
async fn next_message(source: &mut Source) -> Result<Message, End> {
    match source.next().await {
        Some(Ok(message)) => Ok(message),
        None => Err(End::Gone),
        Some(Err(error)) => {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(error) = cause {
                if error.is::<std::io::Error>() {
                    return Err(End::Gone);
                }
                cause = error.source();
            }
            Err(End::bad_frame())
        }
    }
}

/// Writes frames and pings. A client that does not take them in time is too slow.
async fn write(app: &App, line: &Line, sink: &mut Sink, mut frames: mpsc::Receiver<String>) -> End {
    let within = Duration::from_millis(app.config.stream.send_timeout_ms);
    let every = Duration::from_millis(app.config.stream.ping_interval_ms);
    let mut ping = interval_at(tokio::time::Instant::now() + every, every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => Message::text(frame),
                None => return End::Gone,
            },
            _ = ping.tick() => {
                if line.unanswered.fetch_add(1, Ordering::Relaxed) >= MOST_UNANSWERED {
                    return End::close(GOING_AWAY, "no_pong");
                }
                Message::Ping(Bytes::new())
            }
        };
        let written = timeout(within, async {
            sink.feed(message).await?;
            // What waits goes out with it, within bounds.
            for _ in 0..BATCH {
                let Ok(frame) = frames.try_recv() else { break };
                sink.feed(Message::text(frame)).await?;
            }
            sink.flush().await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Gone,
            Err(_) => return End::close(TOO_SLOW, "too_slow"),
        }
    }
}

/// Says why, closes, and waits for the client to close too, so that it hears us before the connection goes.
async fn part(sink: &mut Sink, source: &mut Source, end: End) {
    if let End::Close(code, reason) = end {
        let close = CloseFrame {
            code,
            reason: reason.as_str().into(),
        };
        let said = async {
            sink.send(Message::text(frames::error(&reason))).await?;
            sink.send(Message::Close(Some(close))).await
        };
        if said.await.is_err() {
            return;
        }
    }
    while let Some(Ok(_)) = source.next().await {}
}
