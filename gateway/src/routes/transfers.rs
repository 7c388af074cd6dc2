//! Paying people.

use axum::extract::State;
use platform::Error;
use proto::wallet::v1 as pb;
use proto::wallet::v1::payee::By;
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
    OpenApiRouter::default().routes(routes!(transfer))
}

/// A payment.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTransfer {
    to: To,
    /// More than zero.
    amount: Money,
    /// At most 500 characters.
    #[schema(example = "Lunch")]
    description: Option<String>,
    /// One of `/v1/categories`; `transfer` when absent.
    #[schema(example = "food")]
    category: Option<String>,
}

/// Whom to pay; exactly one of the three.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"handle": "KX48210735"}))]
struct To {
    /// Public wallet handle.
    handle: Option<String>,
    /// E-mail address.
    email: Option<String>,
    user_id: Option<Uuid>,
}

impl To {
    fn payee(self) -> Result<pb::Payee, Error> {
        let by = match self {
            Self {
                handle: Some(handle),
                email: None,
                user_id: None,
            } => By::Handle(handle),
            Self {
                handle: None,
                email: Some(email),
                user_id: None,
            } => By::Email(email),
            Self {
                handle: None,
                email: None,
                user_id: Some(id),
            } => By::UserId(id.to_string()),
            _ => {
                let rule = "must name exactly one of handle, email, user_id";
                return Err(Error::invalid_field("to", rule));
            }
        };
        Ok(pb::Payee { by: Some(by) })
    }
}

/// Pay somebody.
#[utoipa::path(post, path = "/v1/transfers", tag = "wallet", request_body = NewTransfer,
    params(("Idempotency-Key" = String, Header)),
    responses((status = 201, description = "The transfer", body = Transaction),
        (status = 403, description = "Not allowed to pay, e.g. before the e-mail address is confirmed"),
        (status = 404, description = "There is no such payee")))]
async fn transfer(
    State(app): State<App>,
    user: AuthUser,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    Json(body): Json<NewTransfer>,
) -> Result<Created<Transaction>, Failure> {
    let message = pb::TransferRequest {
        idempotency_key,
        to: Some(body.to.payee()?),
        amount: Some(body.amount.into()),
        description: body.description.unwrap_or_default(),
        category: body.category.unwrap_or_default(),
    };
    let reply = keyed(&user, message, |request| async {
        app.clients.wallet().transfer(request).await
    })
    .await?;
    Ok(Created::from_reply(reply, |message| {
        message.transaction.unwrap_or_default().into()
    }))
}
