//! Accounts.

use sea_orm_migration::prelude::*;

pub(super) struct Accounts;

impl MigrationName for Accounts {
    fn name(&self) -> &str {
        "m20261120_000101_accounts"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Accounts {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("accounts")
                    .col(ColumnDef::new("id").uuid().not_null().primary_key())
                    .col(ColumnDef::new("user_id").uuid().null())
                    .col(ColumnDef::new("source").string().null())
                    .col(ColumnDef::new("currency").string().not_null())
                    .col(ColumnDef::new("posted_minor").big_integer().not_null())
                    .col(ColumnDef::new("pending_minor").big_integer().not_null())
                    .col(ColumnDef::new("floor_minor").big_integer().null())
                    .col(ColumnDef::new("version").big_integer().not_null())
                    .col(ColumnDef::new("status").string().not_null())
                    .col(ColumnDef::new("created_at").big_integer().not_null())
                    // The ledger decides; these catch a ledger that is wrong.
                    .check((
                        "accounts_one_owner",
                        Expr::cust("(user_id IS NULL) <> (source IS NULL)"),
                    ))
                    .check((
                        "accounts_above_floor",
                        Expr::cust(
                            "floor_minor IS NULL OR posted_minor - pending_minor >= floor_minor",
                        ),
                    ))
                    .to_owned(),
            )
            .await?;
        for (name, owner) in [("accounts_user", "user_id"), ("accounts_source", "source")] {
            manager
                .create_index(
                    Index::create()
                        .name(name)
                        .table("accounts")
                        .col(owner)
                        .col("currency")
                        .unique()
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("accounts").to_owned())
            .await
    }
}
