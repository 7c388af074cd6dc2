//! The tables of this service, one file a change.

use sea_orm_migration::prelude::*;

mod m20261120_000001_inbox_streams_mails;

/// The migrations of the platform's tables and of ours.
pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = platform::migrations();
        all.push(Box::new(m20261120_000001_inbox_streams_mails::Migration));
        all
    }
}
