//! Settings of the wallet.

use platform::config::{Problem, Validate};
use platform::database::DatabaseConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Currency;
use crate::providers::Funding;

/// Most commands in one transaction that may be configured: more would not fit the parameters of one statement.
const MOST_BATCHED: u32 = 1000;
/// Longest name of a category, in bytes.
const MAX_CATEGORY: usize = 64;

/// Settings of the wallet.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WalletConfig {
    /// Where the ledger is kept. On PostgreSQL payments have up to four connections of their own beside those of here.
    pub database: DatabaseConfig,
    /// ISO 4217 code of the account that everybody gets when they register.
    pub default_currency: String,
    /// Categories in addition to the built-in ones.
    pub categories: Vec<String>,
    /// The funding source of deposits that name none. `sandbox` is play money.
    pub funding_source: String,
    /// How payments are gathered into transactions.
    pub poster: PosterConfig,
}

/// How payments are gathered into transactions.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PosterConfig {
    /// Most commands in one transaction, 1 to 1000.
    pub batch: u32,
    /// Most commands that wait; further ones are told to come back later.
    pub queue: u32,
    /// How long one try of a transaction may take, in milliseconds, before its connection is given up; 100 to 60000. On
    /// PostgreSQL it also bounds how long a replica that froze may keep the others from its accounts.
    pub try_timeout_ms: u64,
}

/// Connections for payments alone: one that works, and those that were given up and have not ended yet.
const OWN_CONNECTIONS: u32 = 4;

impl PosterConfig {
    /// The connections of payments, for a database that knows many.
    pub(crate) fn own(&self, database: &DatabaseConfig) -> DatabaseConfig {
        let timeout = self.try_timeout_ms;
        DatabaseConfig {
            max_connections: OWN_CONNECTIONS,
            statement_timeout_ms: database.statement_timeout_ms.min(timeout),
            idle_in_transaction_timeout_ms: database.idle_in_transaction_timeout_ms.min(timeout),
            ..database.clone()
        }
    }
}

impl Default for WalletConfig {
    fn default() -> Self {
        Self {
            database: DatabaseConfig::default(),
            default_currency: "INR".to_owned(),
            categories: Vec::new(),
            funding_source: "sandbox".to_owned(),
            poster: PosterConfig::default(),
        }
    }
}

impl Default for PosterConfig {
    fn default() -> Self {
        Self {
            batch: 256,
            queue: 4096,
            try_timeout_ms: 5000,
        }
    }
}

impl Validate for WalletConfig {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = self.database.problems("database");
        let mut check = |sound: bool, key: &str, message: &str| {
            if !sound {
                problems.push(Problem::new(key, message));
            }
        };
        check(
            Currency::parse(&self.default_currency).is_some(),
            "default_currency",
            "must be an ISO 4217 code in capitals",
        );
        check(
            self.categories.iter().all(|name| is_category(name)),
            "categories",
            "must be names of 1 to 64 lower-case letters, digits, - and _",
        );
        check(
            !self.funding_source.is_empty() && Funding::new(&self.funding_source).is_some(),
            "funding_source",
            "must be sandbox",
        );
        check(
            (1..=MOST_BATCHED).contains(&self.poster.batch),
            "poster.batch",
            "must be between 1 and 1000",
        );
        check(
            (1..=1_000_000).contains(&self.poster.queue),
            "poster.queue",
            "must be between 1 and 1000000",
        );
        check(
            (100..=60_000).contains(&self.poster.try_timeout_ms),
            "poster.try_timeout_ms",
            "must be between 100 and 60000",
        );
        problems
    }
}

fn is_category(name: &str) -> bool {
    let sound =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    !name.is_empty() && name.len() <= MAX_CATEGORY && name.bytes().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported() {
        let mut config = WalletConfig::default();
        config.database.url = "sqlite::memory:".to_owned();
        assert_eq!(config.validate(), Vec::new());
        config.default_currency = "inr".to_owned();
        config.categories = vec!["Pets & plants".to_owned()];
        config.funding_source = "bank".to_owned();
        config.poster = PosterConfig {
            batch: 0,
            queue: 0,
            try_timeout_ms: 0,
        };
        let keys: Vec<String> = config.validate().into_iter().map(|one| one.key).collect();
        assert_eq!(
            keys,
            [
                "default_currency",
                "categories",
                "funding_source",
                "poster.batch",
                "poster.queue",
                "poster.try_timeout_ms"
            ]
        );
    }
}
