//! The WebSocket stream: each socket holds one `Subscribe` stream of notify-service and takes it up again by itself.

mod acknowledge;
mod frames;
mod guard;
mod pump;
pub(crate) mod session;

use std::sync::atomic::{AtomicI64, AtomicU32};

use platform::principal::Principal;
use tokio::sync::watch;

/// Why a socket ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// We end it, with a close code and a stable reason.
    Close(u16, String),
    /// The client has gone.
    Gone,
}

impl End {
    fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close(code, reason.into())
    }

    fn bad_frame() -> Self {
        Self::close(BAD_FRAME, "bad_frame")
    }
}

const GOING_AWAY: u16 = 1001;
const INTERNAL: u16 = 1011;
const TRY_AGAIN_LATER: u16 = 1013;
const BAD_FRAME: u16 = 4400;
const NOT_AUTHENTICATED: u16 = 4401;
const NO_HELLO: u16 = 4408;
const POSITION_LOST: u16 = 4410;
const TOO_SLOW: u16 = 4413;
const TOO_MANY: u16 = 4429;

/// What the parts of one open socket share.
struct Line {
    /// The user, with the newest token that the client sent.
    user: watch::Sender<Principal>,
    /// Device within the session, as the client named it.
    device_id: String,
    /// Number of the newest event that the client can know of.
    head: AtomicI64,
    /// Highest number that the client has acknowledged.
    acknowledged: watch::Sender<i64>,
    /// Highest acknowledged number that notify-service has stored.
    stored: AtomicI64,
    /// Pings since the client was heard of.
    unanswered: AtomicU32,
}
