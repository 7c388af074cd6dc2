//! The history of one's own money.

use axum::extract::State;
use jiff::Timestamp;
use proto::wallet::v1 as pb;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::limit;
use crate::app::App;
use crate::clients::read;
use crate::error::Failure;
use crate::extract::{AuthUser, Id, Query};
use crate::views::Page;
use crate::views::wallet::Transaction;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(show))
}

/// Which transactions to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// `in` or `out`.
    #[param(example = "out")]
    direction: Option<String>,
    #[param(example = "food")]
    category: Option<String>,
    /// `pending`, `pending_review`, `posted`, `refused` or `cancelled`.
    #[param(example = "posted")]
    status: Option<String>,
    /// At or after.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// One account only.
    account_id: Option<Uuid>,
    /// The user on the other side.
    counterparty_user_id: Option<Uuid>,
}

/// Your transactions, newest first.
#[utoipa::path(get, path = "/v1/transactions", tag = "wallet", params(Filter),
    responses((status = 200, description = "The transactions", body = Page<Transaction>)))]
async fn list(
    State(app): State<App>,
    user: AuthUser,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<Page<Transaction>>, Failure> {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let message = pb::ListTransactionsRequest {
        limit: limit(filter.limit)?,
        cursor: filter.cursor.unwrap_or_default(),
        direction: filter.direction.unwrap_or_default(),
        category: filter.category.unwrap_or_default(),
        status: filter.status.unwrap_or_default(),
        from: filter.from.map(platform::time::to_proto),
        to: filter.to.map(platform::time::to_proto),
        account_id: id(filter.account_id),
        counterparty_user_id: id(filter.counterparty_user_id),
    };
    let reply = read(&user, message, |request| {
        let mut wallet = app.clients.wallet();
        async move { wallet.list_transactions(request).await }
    })
    .await?;
    Ok(axum::Json(Page::new(
        reply.transactions,
        reply.next_cursor,
        Transaction::from,
    )))
}

/// One of your transactions.
#[utoipa::path(get, path = "/v1/transactions/{id}", tag = "wallet",
    params(("id" = Uuid, Path, description = "Id of the transaction")),
    responses((status = 200, description = "The transaction", body = Transaction)))]
async fn show(
    State(app): State<App>,
    user: AuthUser,
    Id(transaction_id): Id,
) -> Result<axum::Json<Transaction>, Failure> {
    let reply = read(
        &user,
        pb::GetTransactionRequest { transaction_id },
        |request| {
            let mut wallet = app.clients.wallet();
            async move { wallet.get_transaction(request).await }
        },
    )
    .await?;
    Ok(axum::Json(reply.transaction.unwrap_or_default().into()))
}
