//! One tree for both databases; the few statements that differ stand side by side.

use sea_orm_migration::prelude::*;

mod m20261120_000101_accounts;
mod m20261120_000102_transactions;
mod m20261120_000103_payees;

/// Which transactions the one who was to take money gets to see: a refused payment is between the payer and us, a
/// refused deposit has no payer. Query and index say it in the same words, or the databases would not use the index.
pub(super) const VISIBLE_TO_PAYEE: &str = "(status <> 'refused' OR source IS NOT NULL)";

/// The schema of wallet-service.
pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = platform::migrations();
        all.push(Box::new(m20261120_000101_accounts::Accounts));
        all.push(Box::new(m20261120_000102_transactions::Transactions));
        all.push(Box::new(m20261120_000103_payees::Payees));
        all
    }
}
