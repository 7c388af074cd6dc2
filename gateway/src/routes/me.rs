//! One's own profile.

use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse, Response};
use http::header::ETAG;
use proto::identity::v1 as pb;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::clients::read;
use crate::error::Failure;
use crate::extract::{AuthUser, IfMatch, Json, etag};
use crate::views::identity::User;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(show, update))
}

fn tagged(user: Option<pb::User>) -> Response {
    let user = user.unwrap_or_default();
    let tag = etag(user.version);
    (AppendHeaders([(ETAG, tag)]), axum::Json(User::from(user))).into_response()
}

/// Your profile.
#[utoipa::path(get, path = "/v1/me", tag = "identity",
    responses((status = 200, description = "The profile", body = User,
        headers(("ETag" = String, description = "Version of the profile")))))]
async fn show(State(app): State<App>, user: AuthUser) -> Result<Response, Failure> {
    let reply = read(&user, pb::GetProfileRequest {}, |request| {
        let mut identity = app.clients.identity();
        async move { identity.get_profile(request).await }
    })
    .await?;
    Ok(tagged(reply.user))
}

/// What to change; what is absent or null stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Changes {
    /// 1 to 100 characters.
    #[schema(example = "Asha")]
    first_name: Option<String>,
    /// 1 to 100 characters.
    #[schema(example = "Rao")]
    last_name: Option<String>,
    /// IANA time zone.
    #[schema(example = "Asia/Kolkata")]
    time_zone: Option<String>,
    /// BCP 47 language tag.
    #[schema(example = "en-IN")]
    locale: Option<String>,
}

/// Change your profile.
#[utoipa::path(patch, path = "/v1/me", tag = "identity", request_body = Changes,
    params(("If-Match" = Option<String>, Header, description = "ETag of the version that you read; changes nothing if \
        the profile has another by now", example = "\"3\"")),
    responses((status = 200, description = "The changed profile", body = User,
            headers(("ETag" = String, description = "Version of the profile"))),
        (status = 412, description = "The profile has changed since you read it")))]
async fn update(
    State(app): State<App>,
    user: AuthUser,
    IfMatch(expected_version): IfMatch,
    Json(changes): Json<Changes>,
) -> Result<Response, Failure> {
    let request = user.request(pb::UpdateProfileRequest {
        first_name: changes.first_name,
        last_name: changes.last_name,
        time_zone: changes.time_zone,
        locale: changes.locale,
        expected_version,
    });
    let reply = app
        .clients
        .identity()
        .update_profile(request)
        .await?
        .into_inner();
    Ok(tagged(reply.user))
}
