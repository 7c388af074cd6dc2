//! What a payment may be for.

use axum::extract::State;
use proto::wallet::v1 as pb;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::clients::read;
use crate::error::Failure;
use crate::extract::AuthUser;
use crate::views::Page;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(list))
}

/// The categories that a transfer may carry.
#[utoipa::path(get, path = "/v1/categories", tag = "wallet",
    responses((status = 200, description = "The categories", body = Page<String>,
        example = json!({"data": ["food", "transport"], "next_cursor": null}))))]
async fn list(State(app): State<App>, user: AuthUser) -> Result<axum::Json<Page<String>>, Failure> {
    let reply = read(&user, pb::ListCategoriesRequest {}, |request| {
        let mut wallet = app.clients.wallet();
        async move { wallet.list_categories(request).await }
    })
    .await?;
    Ok(axum::Json(Page {
        data: reply.categories,
        next_cursor: None,
    }))
}
