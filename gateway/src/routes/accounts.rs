//! One's own accounts.

use axum::extract::State;
use proto::wallet::v1 as pb;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::clients::{keyed, read};
use crate::error::Failure;
use crate::extract::{AuthUser, Created, Id, IdempotencyKey, Json};
use crate::views::Page;
use crate::views::wallet::{Account, Balance};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list, open))
        .routes(routes!(show))
        .routes(routes!(balance))
}

/// Your accounts, oldest first.
#[utoipa::path(get, path = "/v1/accounts", tag = "wallet",
    responses((status = 200, description = "The accounts", body = Page<Account>)))]
async fn list(
    State(app): State<App>,
    user: AuthUser,
) -> Result<axum::Json<Page<Account>>, Failure> {
    let reply = read(&user, pb::ListAccountsRequest {}, |request| {
        let mut wallet = app.clients.wallet();
        async move { wallet.list_accounts(request).await }
    })
    .await?;
    Ok(axum::Json(Page::new(
        reply.accounts,
        String::new(),
        Account::from,
    )))
}

/// A further account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    /// ISO 4217 code.
    #[schema(example = "EUR")]
    currency: String,
}

/// Open an account in a further currency.
///
/// An account that is there already is answered as it is.
#[utoipa::path(post, path = "/v1/accounts", tag = "wallet", request_body = NewAccount,
    params(("Idempotency-Key" = String, Header)),
    responses((status = 201, description = "The account", body = Account)))]
async fn open(
    State(app): State<App>,
    user: AuthUser,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    Json(body): Json<NewAccount>,
) -> Result<Created<Account>, Failure> {
    let message = pb::OpenAccountRequest {
        idempotency_key,
        currency: body.currency,
    };
    let reply = keyed(&user, message, |request| async {
        app.clients.wallet().open_account(request).await
    })
    .await?;
    Ok(Created::from_reply(reply, |message| {
        message.account.unwrap_or_default().into()
    }))
}

async fn account(app: &App, user: &AuthUser, account_id: String) -> Result<pb::Account, Failure> {
    let reply = read(user, pb::GetAccountRequest { account_id }, |request| {
        let mut wallet = app.clients.wallet();
        async move { wallet.get_account(request).await }
    })
    .await?;
    Ok(reply.account.unwrap_or_default())
}

/// One of your accounts.
#[utoipa::path(get, path = "/v1/accounts/{id}", tag = "wallet",
    params(("id" = Uuid, Path, description = "Id of the account")),
    responses((status = 200, description = "The account", body = Account)))]
async fn show(
    State(app): State<App>,
    user: AuthUser,
    Id(id): Id,
) -> Result<axum::Json<Account>, Failure> {
    Ok(axum::Json(account(&app, &user, id).await?.into()))
}

/// The balances of one of your accounts.
#[utoipa::path(get, path = "/v1/accounts/{id}/balance", tag = "wallet",
    params(("id" = Uuid, Path, description = "Id of the account")),
    responses((status = 200, description = "The balances", body = Balance)))]
async fn balance(
    State(app): State<App>,
    user: AuthUser,
    Id(id): Id,
) -> Result<axum::Json<Balance>, Failure> {
    Ok(axum::Json(account(&app, &user, id).await?.into()))
}
