//! Where the link in a verification mail leads.

use std::sync::LazyLock;

use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::Page;
use crate::app::App;

/// The token stays in the address: the page alone reads it, and sends it when the button is pressed. Opening the link
/// uses nothing up, since programs that look through mails open links too.
static PAGE: LazyLock<Page> = LazyLock::new(|| {
    Page::new(
        "Confirm your e-mail address",
        include_str!("verify_email.css"),
        include_str!("verify_email.js"),
    )
});

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(page))
}

/// A page with a button that confirms the address.
#[utoipa::path(get, path = "/verify-email", tag = "auth",
    params(("token" = Option<String>, Query, description = "Token from the mail")),
    responses((status = 200, description = "The page", content_type = "text/html", body = String)))]
async fn page() -> Response {
    PAGE.show()
}
