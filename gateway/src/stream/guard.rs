//! Ends a socket whose user may no longer listen.

use std::time::Duration;

use platform::revocation::Freshness;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use super::{End, GOING_AWAY, Line, NOT_AUTHENTICATED, TRY_AGAIN_LATER};
use crate::app::App;

/// How often to look whether revocations are still heard of.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Returns when the session is revoked, the newest token has expired, revocations cannot be known, or we shut down.
/// `news` must have been subscribed to before the token was checked.
pub(super) async fn watch(app: &App, line: &Line, mut news: Receiver<Uuid>) -> End {
    let authenticator = &app.door.authenticator;
    let clock = app.clock();
    let stop = app.tasks.token();
    let mut user = line.user.subscribe();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let (session, expires_at) = {
            let user = user.borrow_and_update();
            (user.session_id, user.expires_at)
        };
        if authenticator.revocations.is_revoked(&session) {
            return End::close(NOT_AUTHENTICATED, "token_revoked");
        }
        if clock.now() >= expires_at {
            return End::close(NOT_AUTHENTICATED, "token_expired");
        }
        if authenticator.revocations.freshness() == Freshness::Lost {
            return End::close(TRY_AGAIN_LATER, "revocation_state_unknown");
        }
        let expired = clock.sleep_until(expires_at);
        let mine = async {
            loop {
                match news.recv().await {
                    Ok(revoked) if revoked == session => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    // The list lives as long as the gateway.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = expired => {}
            () = mine => {}
            _ = user.changed() => {}
            _ = look.tick() => {}
            () = stop.cancelled() => return End::close(GOING_AWAY, "shutting_down"),
        }
    }
}
