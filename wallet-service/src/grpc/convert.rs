//! Views to proto.

use platform::time;
use prost::Message;
use proto::wallet::v1 as wire;

use crate::domain::Money;
use crate::queries::{AccountView, PartyView, TransactionView};

pub(super) fn account(view: &AccountView) -> wire::Account {
    wire::Account {
        id: view.id.to_string(),
        currency: view.posted.currency.code().to_owned(),
        posted: Some(money(view.posted)),
        pending: Some(money(view.pending)),
        available: Some(money(view.available)),
        version: view.version,
        status: view.status.to_owned(),
        created_at: Some(time::to_proto(view.created_at)),
    }
}

pub(super) fn transaction(view: &TransactionView) -> wire::Transaction {
    wire::Transaction {
        id: view.id.to_string(),
        kind: view.kind.to_owned(),
        status: view.status.clone(),
        direction: view.direction.as_str().to_owned(),
        amount: Some(money(view.amount)),
        from: Some(party(&view.from)),
        to: Some(party(&view.to)),
        description: view.description.clone(),
        category: view.category.clone(),
        created_at: Some(time::to_proto(view.created_at)),
        balance_after: view.balance_after.map(money),
        reason: view.reason.clone().unwrap_or_default(),
    }
}

pub(super) fn encode_deposited(view: &TransactionView) -> Vec<u8> {
    wire::DepositResponse {
        transaction: Some(transaction(view)),
    }
    .encode_to_vec()
}

pub(super) fn encode_transferred(view: &TransactionView) -> Vec<u8> {
    wire::TransferResponse {
        transaction: Some(transaction(view)),
    }
    .encode_to_vec()
}

pub(super) fn encode_opened(view: &AccountView) -> Vec<u8> {
    wire::OpenAccountResponse {
        account: Some(account(view)),
    }
    .encode_to_vec()
}

fn money(money: Money) -> wire::Money {
    wire::Money {
        amount_minor: money.minor,
        currency: money.currency.code().to_owned(),
    }
}

fn party(view: &PartyView) -> wire::Party {
    wire::Party {
        user_id: view.user.map_or_else(String::new, |user| user.to_string()),
        handle: view.handle.clone().unwrap_or_default(),
        account_id: view
            .account
            .map_or_else(String::new, |account| account.to_string()),
        external: view.external.clone().unwrap_or_default(),
    }
}
