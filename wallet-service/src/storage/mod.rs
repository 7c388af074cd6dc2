//! The only place that knows SQL. Every function runs on the connection or transaction that it is given.

pub(crate) mod accounts;
pub(crate) mod entities;
pub(crate) mod history;
pub(crate) mod migrations;
pub(crate) mod payees;
pub(crate) mod transactions;
pub(crate) mod verification;

use platform::Error;
use platform::database::Database;
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, IsolationLevel,
    TransactionOptions, TransactionTrait,
};
use sea_orm_migration::SchemaManager;

/// Whether the schema has ever been made.
pub(crate) async fn has_schema(db: &Database) -> Result<bool, Error> {
    let schema = SchemaManager::new(db.reader());
    // The newest of the tables that are asked.
    Ok(schema.has_table("transactions").await?)
}

/// A read-only transaction in which every statement sees the same moment.
pub(crate) async fn snapshot(db: &Database) -> Result<DatabaseTransaction, Error> {
    let options = match db.backend() {
        DbBackend::Postgres => TransactionOptions {
            isolation_level: Some(IsolationLevel::RepeatableRead),
            access_mode: Some(AccessMode::ReadOnly),
            ..TransactionOptions::default()
        },
        // In WAL mode a reading transaction of SQLite stays at the moment of its first statement.
        _ => TransactionOptions::default(),
    };
    Ok(db.reader().begin_with_options(options).await?)
}

/// As [`snapshot`], for statements that read everything: however long they take.
pub(crate) async fn patient_snapshot(db: &Database) -> Result<DatabaseTransaction, Error> {
    let tx = snapshot(db).await?;
    if db.backend() == DbBackend::Postgres {
        tx.execute_unprepared("SET LOCAL statement_timeout = 0")
            .await?;
    }
    Ok(tx)
}
