//! Bringing money in.

use axum::extract::State;
use proto::wallet::v1 as pb;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::app::App;
use crate::clients::keyed;
use crate::error::Failure;
use crate::extract::{AuthUser, Created, IdempotencyKey, Json};
use crate::views::wallet::{Money, Transaction};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(deposit))
}

/// Money to bring in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDeposit {
    /// More than zero.
    amount: Money,
    /// Account to credit; your account in the currency of the amount when absent.
    account_id: Option<Uuid>,
    /// Funding source.
    #[schema(example = "sandbox")]
    source: Option<String>,
}

/// Bring money in.
#[utoipa::path(post, path = "/v1/deposits", tag = "wallet", request_body = NewDeposit,
    params(("Idempotency-Key" = String, Header)),
    responses((status = 201, description = "The deposit", body = Transaction)))]
async fn deposit(
    State(app): State<App>,
    user: AuthUser,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    Json(body): Json<NewDeposit>,
) -> Result<Created<Transaction>, Failure> {
    let message = pb::DepositRequest {
        idempotency_key,
        amount: Some(body.amount.into()),
        account_id: body.account_id.map(|id| id.to_string()).unwrap_or_default(),
        source: body.source.unwrap_or_default(),
    };
    let reply = keyed(&user, message, |request| async {
        app.clients.wallet().deposit(request).await
    })
    .await?;
    Ok(Created::from_reply(reply, |message| {
        message.transaction.unwrap_or_default().into()
    }))
}
