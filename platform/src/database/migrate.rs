//! Moving a schema, also when many replicas start at once.

use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use sea_orm_migration::MigratorTrait;

use super::{Database, DatabaseConfig};
use crate::Error;

/// The advisory lock of PostgreSQL that whoever moves a schema holds: "coffer" in ASCII.
const LOCK: i64 = 0x636f_6666_6572;

/// Which way a schema is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// All pending migrations, in order.
    Up,
    /// The newest migration, undone.
    Down,
    /// Nothing; only tell.
    Status,
}

/// Migrates and tells what holds afterwards, one migration a line. Of many that call it at once one works and the others
/// wait for it; the lock goes with the connection of who holds it, however that ends.
///
/// # Errors
/// When a migration fails; it is rolled back as far as the database can.
pub async fn migrate<M: MigratorTrait>(
    db: &Database,
    direction: Direction,
) -> Result<String, Error> {
    if direction == Direction::Status || db.backend() == DbBackend::Sqlite {
        return run::<M>(db, direction).await;
    }
    // A session of its own: migrations may take long, and the lock must not end before them.
    let patient = Database::connect(&DatabaseConfig {
        max_connections: 2,
        statement_timeout_ms: 3_600_000,
        idle_in_transaction_timeout_ms: 3_600_000,
        ..(*db.config).clone()
    })
    .await?;
    let lock = patient.writer.begin().await?;
    lock.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({LOCK})"))
        .await?;
    let told = run::<M>(&patient, direction).await;
    lock.commit().await?;
    patient.close().await;
    told
}

async fn run<M: MigratorTrait>(db: &Database, direction: Direction) -> Result<String, Error> {
    match direction {
        Direction::Up => M::up(&db.writer, None).await?,
        Direction::Down => M::down(&db.writer, Some(1)).await?,
        Direction::Status => {}
    }
    let lines = M::get_migration_with_status(&db.writer)
        .await?
        .into_iter()
        .map(|one| {
            format!(
                "{:<8} {}",
                one.status().to_string().to_lowercase(),
                one.name()
            )
        })
        .collect::<Vec<_>>();
    Ok(lines.join("\n"))
}
