//! Passes acknowledgements on, the newest only.

use std::sync::atomic::Ordering;
use std::time::Duration;

use platform::grpc::client::as_user;
use platform::{Error, Kind};
use proto::notify::v1::AcknowledgeRequest;

use super::Line;
use crate::app::App;

/// Pause after an acknowledgement could not be stored.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest that the last acknowledgement may hold up the end of a socket.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Stores acknowledgements as they come. While one is on its way, newer ones replace each other.
pub(super) async fn forward(app: &App, line: &Line) -> std::convert::Infallible {
    let mut acknowledged = line.acknowledged.subscribe();
    loop {
        let seq = *acknowledged.borrow_and_update();
        if seq > line.stored.load(Ordering::Relaxed)
            && let Err(error) = store(app, line, seq).await
        {
            tracing::debug!(%error, "an acknowledgement was not stored");
            // A refusal does not change by asking again.
            if matches!(
                error.kind(),
                Kind::Unavailable | Kind::Timeout | Kind::Internal
            ) {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        if acknowledged.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Stores what has not been stored when the socket ends.
pub(super) async fn finish(app: &App, line: &Line) {
    let seq = *line.acknowledged.borrow();
    if seq <= line.stored.load(Ordering::Relaxed) {
        return;
    }
    match tokio::time::timeout(LAST_WORD, store(app, line, seq)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the last acknowledgement was not stored"),
        Err(_) => tracing::debug!("the last acknowledgement was not stored in time"),
    }
}

async fn store(app: &App, line: &Line, seq: i64) -> Result<(), Error> {
    let token = line.user.borrow().token.clone();
    let message = AcknowledgeRequest {
        seq,
        device_id: line.device_id.clone(),
    };
    match app
        .clients
        .notify()
        .acknowledge(as_user(message, &token))
        .await
    {
        Ok(_) => {
            line.stored.fetch_max(seq, Ordering::Relaxed);
            Ok(())
        }
        Err(status) => Err(Error::from_status(&status)),
    }
}
