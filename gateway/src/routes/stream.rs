//! The WebSocket stream.

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::edge::Peer;
use crate::error::Failure;
use crate::extract::Query;
use crate::stream::session;

/// Bytes in one frame of a client, at most.
const MAX_FRAME: usize = 64 * 1024;
/// Bytes of the read buffer of one socket; there may be thousands.
const READ_BUFFER: usize = 4 * 1024;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(open))
}

/// No parameters: a token in a URL ends in logs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Your events, live (WebSocket).
///
/// JSON text frames. Say `{"type":"hello","token":"…","after":41,"device_id":"…"}` within 5 s; `after` is the number of
/// the last event that you have, 0 for the first that is kept, absent for this device's last acknowledgement. Then
/// `{"type":"ready","seq":45}` and events `{"type":"event","seq":42,"topic":"balance","event":"balance.updated",
/// "at":"…","data":{…}}` come, numbered without gaps. Acknowledge with `{"type":"ack","seq":42}`; before your token
/// expires send `{"type":"token","token":"…"}`. Close codes: 4400 bad frame, 4401 not or no longer authenticated, 4408 no
/// hello, 4410 `after` is older than what is kept, 4413 too slow, 4429 too many connections.
#[utoipa::path(get, path = "/v1/stream", tag = "notifications",
    responses((status = 101, description = "The socket is open"),
        (status = 426, description = "Not a WebSocket handshake")))]
async fn open(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    Query(Nothing {}): Query<Nothing>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|_| {
        Failure::with_status(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            "this route speaks WebSocket (RFC 6455)",
        )
    })?;
    let place = peer.map(|Extension(peer)| peer.place);
    let tasks = app.tasks.clone();
    Ok(upgrade
        .max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME)
        .read_buffer_size(READ_BUFFER)
        .on_upgrade(async move |socket| {
            tasks.spawn("gateway-socket", session::run(app, socket, place));
        }))
}
