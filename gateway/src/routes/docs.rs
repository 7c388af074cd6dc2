//! The description of the API, and a page to read and try it.
//!
//! The page is our own and needs nothing from elsewhere: the Scalar page loads its program from a public network, which
//! neither a machine without one nor a strict content security policy allows.

use std::sync::LazyLock;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::Page;
use crate::app::App;

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    Page::new(
        "Coffer API",
        include_str!("docs.css"),
        include_str!("docs.js"),
    )
});

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(document))
        .routes(routes!(page))
}

/// This API as an OpenAPI 3.1 document.
#[utoipa::path(get, path = "/openapi.json", tag = "docs",
    responses((status = 200, description = "The document", content_type = "application/json",
        body = Object)))]
async fn document(State(app): State<App>) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, app.caches.document.clone()).into_response()
}

/// A page to read this API and try it.
#[utoipa::path(get, path = "/docs", tag = "docs",
    responses((status = 200, description = "The page", content_type = "text/html", body = String)))]
async fn page() -> Response {
    PAGE.show()
}
