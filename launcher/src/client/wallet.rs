use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ApiError, Page, Reply, Session};

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Amount in the currency's minor unit.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
}

impl Money {
    /// An amount in Indian rupees, the default currency.
    pub fn inr(amount_minor: i64) -> Self {
        Self {
            amount_minor,
            currency: "INR".to_owned(),
        }
    }
}

impl std::fmt::Display for Money {
    /// For a person, in a currency with two decimals.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minor = self.amount_minor.unsigned_abs();
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        write!(
            f,
            "{} {sign}{}.{:02}",
            self.currency,
            minor / 100,
            minor % 100
        )
    }
}

/// An account as its owner sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct Account {
    /// UUIDv7.
    pub id: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Balance from posted entries.
    pub posted: Money,
    /// Reserved by holds.
    pub pending: Money,
    /// What may be spent.
    pub available: Money,
    /// Rises with every change of a balance.
    pub version: i64,
    /// `open` or `frozen`.
    pub status: String,
}

/// Somebody on one side of a transaction.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Party {
    /// UUIDv7 of the user; absent for an external account.
    pub user_id: Option<String>,
    /// Public wallet handle; absent for an external account.
    pub handle: Option<String>,
}

/// A movement of money as one side sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct Transaction {
    /// UUIDv7.
    pub id: String,
    /// `deposit` or `transfer`.
    pub kind: String,
    /// `posted` when the money has moved.
    pub status: String,
    /// `in` or `out`.
    pub direction: String,
    /// How much.
    pub amount: Money,
    /// Who paid.
    #[serde(default)]
    pub from: Party,
    /// Who got it.
    #[serde(default)]
    pub to: Party,
    /// What the payer wrote.
    #[serde(default)]
    pub description: String,
}

impl Session {
    /// The user's accounts, oldest first.
    ///
    /// # Errors
    /// 401 when the session has ended.
    pub async fn accounts(&self) -> Result<Vec<Account>, ApiError> {
        let request = self.request(Method::GET, "/v1/accounts");
        Ok(self.api.call::<Page<Account>>(request).await?.body.data)
    }

    /// Brings money in from the sandbox source.
    ///
    /// # Errors
    /// 404 while the account is not open, 400 with the fields that are wrong, 422 for a reused key.
    pub async fn deposit(&self, key: &str, amount: &Money) -> Result<Reply<Transaction>, ApiError> {
        let body = json!({ "amount": amount });
        self.api.call(self.keyed("/v1/deposits", key, &body)).await
    }

    /// Pays another user by handle.
    ///
    /// # Errors
    /// 409 when a rule refuses it, 400 with the fields that are wrong, 422 for a reused key.
    pub async fn transfer(
        &self,
        key: &str,
        handle: &str,
        amount: &Money,
        description: &str,
    ) -> Result<Reply<Transaction>, ApiError> {
        let body = json!({
            "to": { "handle": handle }, "amount": amount, "description": description,
        });
        self.api.call(self.keyed("/v1/transfers", key, &body)).await
    }

    /// One page of the history, newest first.
    ///
    /// # Errors
    /// 400 for a cursor that is none.
    pub async fn transactions(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Transaction>, ApiError> {
        let cursor = cursor
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        let path = format!("/v1/transactions?limit={limit}{cursor}");
        Ok(self.api.call(self.request(Method::GET, &path)).await?.body)
    }
}
