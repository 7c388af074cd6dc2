//! Transactions and entries.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use super::VISIBLE_TO_PAYEE;

pub(super) struct Transactions;

impl MigrationName for Transactions {
    fn name(&self) -> &str {
        "m20261120_000102_transactions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Transactions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create_transactions(manager).await?;
        // No foreign keys: one path writes these tables, in one transaction, and `ledger verify` looks for
        // lines that belong nowhere. Keys would cost a look-up for every row of every batch.
        manager
            .create_table(
                Table::create()
                    .table("entries")
                    .col(ColumnDef::new("account_id").uuid().not_null())
                    .col(ColumnDef::new("version").big_integer().not_null())
                    .col(ColumnDef::new("transaction_id").uuid().not_null())
                    .col(ColumnDef::new("amount_minor").big_integer().not_null())
                    .col(ColumnDef::new("balance_minor").big_integer().not_null())
                    .col(ColumnDef::new("created_at").big_integer().not_null())
                    .primary_key(Index::create().col("account_id").col("version"))
                    .check(("entries_move_something", Expr::cust("amount_minor <> 0")))
                    .to_owned(),
            )
            .await?;
        make_entries_immutable(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("entries").to_owned())
            .await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            let drop = "DROP FUNCTION entries_are_immutable()";
            manager.get_connection().execute_unprepared(drop).await?;
        }
        manager
            .drop_table(Table::drop().table("transactions").to_owned())
            .await
    }
}

async fn create_transactions(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("transactions")
                .col(ColumnDef::new("id").uuid().not_null().primary_key())
                .col(ColumnDef::new("kind").string().not_null())
                .col(ColumnDef::new("status").string().not_null())
                .col(ColumnDef::new("currency").string().not_null())
                .col(ColumnDef::new("amount_minor").big_integer().not_null())
                .col(ColumnDef::new("from_user_id").uuid().null())
                .col(ColumnDef::new("from_account_id").uuid().null())
                .col(ColumnDef::new("from_balance_minor").big_integer().null())
                .col(ColumnDef::new("to_user_id").uuid().null())
                .col(ColumnDef::new("to_account_id").uuid().null())
                .col(ColumnDef::new("to_balance_minor").big_integer().null())
                .col(ColumnDef::new("source").string().null())
                .col(ColumnDef::new("description").string_len(500).not_null())
                .col(ColumnDef::new("category").string().not_null())
                .col(ColumnDef::new("reason").string().null())
                .col(ColumnDef::new("request_scope").string().not_null())
                .col(ColumnDef::new("request_key").string().not_null())
                .col(ColumnDef::new("created_at").big_integer().not_null())
                .check(("transactions_positive", Expr::cust("amount_minor > 0")))
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("transactions_from_user")
                .table("transactions")
                .col("from_user_id")
                .col("id")
                .to_owned(),
        )
        .await?;
    manager
        .create_index(
            Index::create()
                .name("transactions_to_user")
                .table("transactions")
                .col("to_user_id")
                .col("id")
                .cond_where(Expr::cust(VISIBLE_TO_PAYEE))
                .to_owned(),
        )
        .await
}

/// The database itself refuses to change or remove an entry.
async fn make_entries_immutable(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let statements: &[&str] = match manager.get_database_backend() {
        DbBackend::Postgres => &[
            "CREATE FUNCTION entries_are_immutable() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'entries are immutable'; END $$",
            "CREATE TRIGGER entries_no_change BEFORE UPDATE OR DELETE ON entries \
             FOR EACH ROW EXECUTE FUNCTION entries_are_immutable()",
        ],
        _ => &[
            "CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries \
             BEGIN SELECT RAISE(ABORT, 'entries are immutable'); END",
            "CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries \
             BEGIN SELECT RAISE(ABORT, 'entries are immutable'); END",
        ],
    };
    for statement in statements {
        manager
            .get_connection()
            .execute_unprepared(statement)
            .await?;
    }
    Ok(())
}
