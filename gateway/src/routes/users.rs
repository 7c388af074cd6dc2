//! Finding people to pay.

use axum::extract::State;
use proto::identity::v1 as pb;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::limit;
use crate::app::App;
use crate::clients::read;
use crate::error::Failure;
use crate::extract::{AuthUser, Query};
use crate::views::Page;
use crate::views::identity::FoundUser;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(search))
}

/// Whom to look for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Search {
    /// Handle, the beginning of a name (2 characters or more), or a whole e-mail address.
    #[param(example = "asha")]
    q: String,
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Find people to pay.
#[utoipa::path(get, path = "/v1/users/search", tag = "identity", params(Search),
    responses((status = 200, description = "Those who were found", body = Page<FoundUser>)))]
async fn search(
    State(app): State<App>,
    user: AuthUser,
    Query(search): Query<Search>,
) -> Result<axum::Json<Page<FoundUser>>, Failure> {
    let message = pb::SearchUsersRequest {
        query: search.q,
        limit: limit(search.limit)?,
        cursor: search.cursor.unwrap_or_default(),
    };
    let reply = read(&user, message, |request| {
        let mut identity = app.clients.identity();
        async move { identity.search_users(request).await }
    })
    .await
    .map_err(|failure| failure.rename_field("query", "q"))?;
    Ok(axum::Json(Page::new(
        reply.users,
        reply.next_cursor,
        FoundUser::from,
    )))
}
