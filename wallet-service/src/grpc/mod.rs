//! proto ⇄ domain, nothing else.

mod convert;
mod requests;

use std::sync::Arc;

use platform::grpc::{DEFAULT_DEADLINE, Deadline, replayed, replayed_status};
use platform::keys::Keys;
use platform::principal::{fresh_user, user};
use platform::work::{RequestKey, Work};
use platform::{id, telemetry};
use prost::Message;
use proto::wallet::v1 as wire;
use proto::wallet::v1::wallet_server::Wallet;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::commands::{
    Commands, DEPOSIT, Deposit, Encode, Outcome, TRANSFER, Ticket, TransferFunds,
};
use crate::domain::{AccountId, Categories, TransactionId, UserId};
use crate::queries;

/// The gRPC face of the wallet.
#[derive(Clone)]
pub(crate) struct WalletGrpc {
    pub(crate) commands: Commands,
    pub(crate) work: Work,
    pub(crate) categories: Arc<Categories>,
    pub(crate) keys: Arc<Keys>,
}

#[tonic::async_trait]
impl Wallet for WalletGrpc {
    async fn list_accounts(
        &self,
        request: Request<wire::ListAccountsRequest>,
    ) -> Result<Response<wire::ListAccountsResponse>, Status> {
        let viewer = UserId(user(&request)?.user_id);
        let accounts = queries::list_accounts(self.work.db(), viewer).await?;
        let accounts = accounts.iter().map(convert::account).collect();
        Ok(Response::new(wire::ListAccountsResponse { accounts }))
    }

    async fn open_account(
        &self,
        request: Request<wire::OpenAccountRequest>,
    ) -> Result<Response<wire::OpenAccountResponse>, Status> {
        let owner = UserId(fresh_user(&request)?.user_id);
        let deadline = deadline(&request);
        let asked = request.into_inner();
        let key = RequestKey::parse(owner.0, "open_account", &asked.idempotency_key, &asked)?;
        let currency = requests::currency("currency", &asked.currency)?;
        let ticket = ticket(key, convert::encode_opened, deadline);
        reply(self.commands.open_account(owner, currency, ticket).await?)
    }

    async fn get_account(
        &self,
        request: Request<wire::GetAccountRequest>,
    ) -> Result<Response<wire::GetAccountResponse>, Status> {
        let viewer = UserId(user(&request)?.user_id);
        let account = AccountId(id::parse("account_id", &request.get_ref().account_id)?);
        let account = queries::get_account(self.work.db(), viewer, account).await?;
        let account = Some(convert::account(&account));
        Ok(Response::new(wire::GetAccountResponse { account }))
    }

    async fn deposit(
        &self,
        request: Request<wire::DepositRequest>,
    ) -> Result<Response<wire::DepositResponse>, Status> {
        let depositor = UserId(fresh_user(&request)?.user_id);
        let deadline = deadline(&request);
        let asked = request.into_inner();
        let key = RequestKey::parse(depositor.0, DEPOSIT, &asked.idempotency_key, &asked)?;
        let (amount, account) = requests::deposit(&asked)?;
        let deposit = Deposit {
            user: depositor,
            amount,
            account,
            source: asked.source,
        };
        let ticket = ticket(key, convert::encode_deposited, deadline);
        reply(self.commands.deposit(deposit, ticket).await?)
    }

    async fn transfer(
        &self,
        request: Request<wire::TransferRequest>,
    ) -> Result<Response<wire::TransferResponse>, Status> {
        let principal = fresh_user(&request)?;
        let deadline = deadline(&request);
        let asked = request.into_inner();
        let payer = UserId(principal.user_id);
        let key = RequestKey::parse(payer.0, TRANSFER, &asked.idempotency_key, &asked)?;
        let email_hash = |email: &str| self.keys.email_hash(email);
        let asked = requests::transfer(asked, &self.categories, email_hash)?;
        let transfer = TransferFunds {
            payer,
            payer_verified: principal.email_verified,
            to: asked.to,
            amount: asked.amount,
            description: asked.description,
            category: asked.category,
        };
        let ticket = ticket(key, convert::encode_transferred, deadline);
        reply(self.commands.transfer_funds(transfer, ticket).await?)
    }

    async fn list_transactions(
        &self,
        request: Request<wire::ListTransactionsRequest>,
    ) -> Result<Response<wire::ListTransactionsResponse>, Status> {
        let viewer = UserId(user(&request)?.user_id);
        let asked = request.into_inner();
        let filter = requests::history(&asked)?;
        let page =
            queries::list_transactions(self.work.db(), viewer, &filter, asked.limit, &asked.cursor)
                .await?;
        Ok(Response::new(wire::ListTransactionsResponse {
            transactions: page.transactions.iter().map(convert::transaction).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn get_transaction(
        &self,
        request: Request<wire::GetTransactionRequest>,
    ) -> Result<Response<wire::GetTransactionResponse>, Status> {
        let viewer = UserId(user(&request)?.user_id);
        let wanted = id::parse("transaction_id", &request.get_ref().transaction_id)?;
        let found = queries::get_transaction(self.work.db(), viewer, TransactionId(wanted)).await?;
        let transaction = Some(convert::transaction(&found));
        Ok(Response::new(wire::GetTransactionResponse { transaction }))
    }

    async fn list_categories(
        &self,
        request: Request<wire::ListCategoriesRequest>,
    ) -> Result<Response<wire::ListCategoriesResponse>, Status> {
        user(&request)?;
        let categories = self.categories.names().to_vec();
        Ok(Response::new(wire::ListCategoriesResponse { categories }))
    }
}

fn deadline<T>(request: &Request<T>) -> Instant {
    let told = request.extensions().get::<Deadline>();
    told.map_or_else(|| Instant::now() + DEFAULT_DEADLINE, |deadline| deadline.0)
}

fn ticket<T>(key: RequestKey, encode: Encode<T>, deadline: Instant) -> Ticket<T> {
    Ticket {
        key,
        encode,
        traceparent: telemetry::current_traceparent(),
        deadline,
    }
}

/// The answer of a command, marked when it was given before.
fn reply<R: Message + Default>(outcome: Outcome) -> Result<Response<R>, Status> {
    match outcome.answer {
        Ok(bytes) => {
            let reply = R::decode(bytes.as_slice()).map_err(platform::Error::internal)?;
            let response = Response::new(reply);
            Ok(if outcome.replayed {
                replayed(response)
            } else {
                response
            })
        }
        Err(refusal) => {
            let status = Status::from(refusal);
            Err(if outcome.replayed {
                replayed_status(status)
            } else {
                status
            })
        }
    }
}
