//! One tree of migrations for both databases.

mod m20261120_000001_sms;
mod m20261120_000002_due;

use sea_orm_migration::prelude::*;

/// The platform's tables, then the scheduler's.
pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = platform::migrations();
        all.push(Box::new(m20261120_000001_sms::Migration));
        all.push(Box::new(m20261120_000002_due::Migration));
        all
    }
}
