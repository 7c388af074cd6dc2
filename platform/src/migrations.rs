//! The tables that every service has.

use sea_orm_migration::prelude::*;

/// Migrations of the platform's own tables; a service puts them before its own.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(PlatformTables)]
}

struct PlatformTables;

impl MigrationName for PlatformTables {
    fn name(&self) -> &str {
        "m20261120_000000_platform_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for PlatformTables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("outbox")
                    .col(ColumnDef::new("id").uuid().not_null().primary_key())
                    .col(ColumnDef::new("type").string().not_null())
                    .col(ColumnDef::new("subject").string().not_null())
                    .col(ColumnDef::new("at").big_integer().not_null())
                    .col(ColumnDef::new("traceparent").string().not_null())
                    .col(ColumnDef::new("data").binary().not_null())
                    .col(ColumnDef::new("leased_until").big_integer().not_null())
                    .col(ColumnDef::new("attempts").integer().not_null())
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("inbox")
                    .col(ColumnDef::new("consumer").string().not_null())
                    .col(ColumnDef::new("event_id").uuid().not_null())
                    .col(ColumnDef::new("at").big_integer().not_null())
                    .primary_key(Index::create().col("consumer").col("event_id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("idempotency_keys")
                    .col(ColumnDef::new("scope").string().not_null())
                    .col(ColumnDef::new("key").string().not_null())
                    .col(ColumnDef::new("fingerprint").binary().not_null())
                    .col(ColumnDef::new("answer").binary().null())
                    .col(ColumnDef::new("at").big_integer().not_null())
                    .primary_key(Index::create().col("scope").col("key"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("dead_letters")
                    .col(ColumnDef::new("consumer").string().not_null())
                    .col(ColumnDef::new("event_id").uuid().not_null())
                    .col(ColumnDef::new("type").string().not_null())
                    .col(ColumnDef::new("envelope").binary().not_null())
                    .col(ColumnDef::new("reason").string().not_null())
                    .col(ColumnDef::new("at").big_integer().not_null())
                    .primary_key(Index::create().col("consumer").col("event_id"))
                    .to_owned(),
            )
            .await?;
        for table in ["inbox", "idempotency_keys"] {
            manager
                .create_index(
                    Index::create()
                        .name(format!("{table}_at"))
                        .table(table)
                        .col("at")
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["dead_letters", "idempotency_keys", "inbox", "outbox"] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}
