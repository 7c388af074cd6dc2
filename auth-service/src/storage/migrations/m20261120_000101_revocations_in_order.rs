//! Revocations bear the id of their transaction, so that replicas find each one however late it was committed.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::*;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261120_000101_revocations_in_order"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite has one process that writes.
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        let statement = "ALTER TABLE revocations ADD COLUMN transaction_id bigint NOT NULL \
                         DEFAULT (pg_current_xact_id()::text::bigint)";
        manager
            .get_connection()
            .execute_unprepared(statement)
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("revocations_transaction_id")
                    .table("revocations")
                    .col("transaction_id")
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        let statement = "ALTER TABLE revocations DROP COLUMN transaction_id";
        manager
            .get_connection()
            .execute_unprepared(statement)
            .await?;
        Ok(())
    }
}
