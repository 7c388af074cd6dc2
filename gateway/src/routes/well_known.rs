//! The keys that access tokens are signed with.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use platform::grpc::client::retry_safe;
use proto::identity::v1::GetJwksRequest;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::Failure;

/// How long an answer is kept, since anybody may ask.
const KEPT_FOR: Duration = Duration::from_secs(30);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(jwks))
}

/// The last key set and when it was asked for.
#[derive(Default)]
pub(crate) struct KeyCache {
    last: Mutex<Option<(Instant, Bytes)>>,
}

/// The public keys of access tokens (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "identity",
    responses((status = 200, description = "The key set", content_type = "application/jwk-set+json",
        body = Object)))]
async fn jwks(State(app): State<App>) -> Result<Response, Failure> {
    let keys = app.caches.keys.get(&app).await?;
    let headers = [
        (CONTENT_TYPE, "application/jwk-set+json"),
        (CACHE_CONTROL, "public, max-age=300"),
    ];
    Ok((headers, keys).into_response())
}

impl KeyCache {
    async fn get(&self, app: &App) -> Result<Bytes, Failure> {
        let mut last = self.last.lock().await;
        if let Some((at, keys)) = &*last
            && at.elapsed() < KEPT_FOR
        {
            return Ok(keys.clone());
        }
        let asked = retry_safe(|| async {
            app.clients
                .identity()
                .get_jwks(app.clients.edge(GetJwksRequest {}))
                .await
        });
        match (asked.await, &*last) {
            (Ok(reply), _) => {
                let keys = Bytes::from(reply.into_inner().jwks_json);
                *last = Some((Instant::now(), keys.clone()));
                Ok(keys)
            }
            // Keys that were good a moment ago are better than none.
            (Err(_), Some((_, keys))) => Ok(keys.clone()),
            (Err(status), None) => Err(status.into()),
        }
    }
}
