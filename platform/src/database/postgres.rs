//! What PostgreSQL needs beside a URL.

use std::time::Duration;

use sea_orm::DatabaseConnection;

use super::{DatabaseConfig, options};
use crate::Error;

/// A connection that was not used for this long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// No connection lives longer, so that a fail-over or a new address of the server is followed.
const LIFE: Duration = Duration::from_secs(1800);

/// Opens the pool. Each session carries limits, so that neither a statement nor a transaction that its client forgot
/// holds locks for long, and the server notices within half a minute when our machine has gone.
pub(super) async fn connect(config: &DatabaseConfig) -> Result<DatabaseConnection, Error> {
    let mut pool = options(config, config.max_connections);
    pool.idle_timeout(IDLE)
        .max_lifetime(LIFE)
        .test_before_acquire(true);
    let settings = [
        ("statement_timeout", config.statement_timeout_ms.to_string()),
        (
            "idle_in_transaction_session_timeout",
            config.idle_in_transaction_timeout_ms.to_string(),
        ),
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "25000".to_owned()),
    ];
    pool.map_sqlx_postgres_opts(move |session| {
        session
            .application_name("coffer")
            .options(settings.iter().map(|(name, value)| (*name, value.as_str())))
    });
    Ok(sea_orm::Database::connect(pool).await?)
}
