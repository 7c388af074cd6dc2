//! Facts that the wallet tells, and facts that it listens to.

use platform::event_bus::{Envelope, HandleError, Handler, decode};
use platform::work::UnitOfWork;
use proto::identity::v1::{EmailVerified, UserRegistered};
use proto::subscriptions::WALLET_USERS;
use proto::wallet::v1 as wire;
use uuid::Uuid;

use crate::commands::{register_payee, verify_payee};
use crate::domain::{
    Account, AccountId, Currency, Money, Payee, PayeeState, Posting, Refusal, TransactionId, UserId,
};
use crate::storage::transactions::{TransactionKind, TransactionRecord};

/// Longest handle that is taken from a fact.
const MAX_HANDLE: usize = 64;

/// Tells that an account was opened.
pub(crate) fn tell_account_opened(
    unit: &mut UnitOfWork,
    account: AccountId,
    user: UserId,
    currency: Currency,
) {
    unit.emit(
        account,
        &wire::AccountOpened {
            account_id: account.to_string(),
            user_id: user.to_string(),
            currency: currency.code().to_owned(),
        },
    );
}

/// Tells that money moved, in the trace of the request that moved it.
pub(crate) fn tell_posted(
    unit: &mut UnitOfWork,
    traceparent: Option<String>,
    record: &TransactionRecord,
    posting: &Posting,
) {
    let transaction_id = record.id.to_string();
    let amount = Some(money(record.amount));
    let (from, to) = (Some(side(&posting.from)), Some(side(&posting.to)));
    match record.kind {
        TransactionKind::Deposit => {
            let fact = wire::DepositPosted {
                transaction_id,
                amount,
                to,
            };
            unit.emit_in_trace(traceparent, record.id, &fact);
        }
        TransactionKind::Transfer => {
            let category = record.category.clone();
            let fact = wire::TransferPosted {
                transaction_id,
                amount,
                from,
                to,
                category,
            };
            unit.emit_in_trace(traceparent, record.id, &fact);
        }
    }
}

/// Tells that a transfer was refused, in the trace of the request.
pub(crate) fn tell_refused(
    unit: &mut UnitOfWork,
    traceparent: Option<String>,
    transaction: TransactionId,
    payer: UserId,
    amount: Money,
    refusal: Refusal,
) {
    let fact = wire::TransferRefused {
        transaction_id: transaction.to_string(),
        user_id: payer.to_string(),
        amount: Some(money(amount)),
        reason: refusal.reason().to_owned(),
    };
    unit.emit_in_trace(traceparent, transaction, &fact);
}

fn money(money: Money) -> wire::Money {
    wire::Money {
        amount_minor: money.minor,
        currency: money.currency.code().to_owned(),
    }
}

fn side(account: &Account) -> wire::Side {
    wire::Side {
        account_id: account.id.to_string(),
        user_id: account
            .user()
            .map_or_else(String::new, |user| user.to_string()),
        version: account.version,
        posted_minor: account.posted_minor,
        pending_minor: account.pending_minor,
        available_minor: account.available_minor(),
    }
}

/// Listens to what auth-service tells of users.
pub(crate) struct UserEvents {
    /// The currency of a user's first account.
    pub(crate) default_currency: Currency,
}

#[async_trait::async_trait]
impl Handler for UserEvents {
    fn types(&self) -> &'static [&'static str] {
        WALLET_USERS.types
    }

    async fn handle(&self, unit: &mut UnitOfWork, event: &Envelope) -> Result<(), HandleError> {
        match event.r#type.as_str() {
            "identity.v1.UserRegistered" => {
                let payee = payee(decode::<UserRegistered>(event)?)?;
                Ok(register_payee(unit, payee, self.default_currency).await?)
            }
            "identity.v1.EmailVerified" => {
                let fact: EmailVerified = decode(event)?;
                Ok(verify_payee(unit, user_id(&fact.user_id)?, fact.version).await?)
            }
            other => Err(HandleError::Poison(format!("{other} was not asked for"))),
        }
    }
}

fn payee(fact: UserRegistered) -> Result<Payee, HandleError> {
    let user = user_id(&fact.user_id)?;
    let handle = fact.handle.to_ascii_uppercase();
    let sound = !handle.is_empty()
        && handle.len() <= MAX_HANDLE
        && handle.bytes().all(|byte| byte.is_ascii_graphic());
    if !sound || fact.email_hash.is_empty() {
        return Err(HandleError::Poison(format!(
            "user {user} cannot be found by handle or e-mail"
        )));
    }
    Ok(Payee {
        user,
        handle,
        email_hash: fact.email_hash,
        state: PayeeState::Registered,
        version: fact.version,
    })
}

fn user_id(text: &str) -> Result<UserId, HandleError> {
    let id = Uuid::try_parse(text);
    id.map(UserId)
        .map_err(|_| HandleError::Poison(format!("{text:?} is not a user id")))
}
