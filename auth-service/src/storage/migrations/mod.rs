//! The schema, one tree for SQLite and PostgreSQL.

mod m20261120_000100_identity;
mod m20261120_000101_revocations_in_order;

use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// All migrations of auth-service: the platform's tables, then its own.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = platform::migrations();
        all.push(Box::new(m20261120_000100_identity::Migration));
        all.push(Box::new(m20261120_000101_revocations_in_order::Migration));
        all
    }
}
