//! Removal of what nobody needs any more, in small transactions so that no writer waits long.

use std::time::Duration;

use jiff::Timestamp;
use platform::Error;
use platform::time::to_micros;
use platform::work::Work;
use sea_orm::sea_query::{Expr, ExprTrait, IntoIden, Query};
use sea_orm::{ConnectionTrait, EntityTrait, Iden};

use super::{attempts, email_tokens, refresh_tokens, revocations, sessions};

/// Rows removed in one transaction.
const CHUNK: u64 = 1_000;
/// Sessions are kept this long after their end, for their owner's list.
const SESSION_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Mailed tokens are kept this long after they were made: the hourly allowance counts them.
const TOKEN_KEPT: Duration = Duration::from_secs(86_400);

/// Removes expired tokens, revocations, counters and long-ended sessions. Returns how many rows went.
///
/// # Errors
/// As any query.
pub async fn run(work: &Work, now: Timestamp) -> Result<u64, Error> {
    let before = |age: Duration| now.checked_sub(age).map_or(i64::MIN, to_micros);
    let mut gone = 0;
    gone += remove(
        work,
        revocations::Entity,
        revocations::Column::SessionId,
        revocations::Column::Until,
        to_micros(now),
    )
    .await?;
    gone += remove(
        work,
        email_tokens::Entity,
        email_tokens::Column::Hash,
        email_tokens::Column::ExpiresAt,
        before(TOKEN_KEPT),
    )
    .await?;
    gone += remove(
        work,
        refresh_tokens::Entity,
        refresh_tokens::Column::Hash,
        refresh_tokens::Column::ExpiresAt,
        to_micros(now),
    )
    .await?;
    gone += remove(
        work,
        attempts::Entity,
        attempts::Column::Subject,
        attempts::Column::LastAt,
        attempts::forgettable(now),
    )
    .await?;
    gone += remove(
        work,
        sessions::Entity,
        sessions::Column::Id,
        sessions::Column::ExpiresAt,
        before(SESSION_KEPT),
    )
    .await?;
    Ok(gone)
}

async fn remove<E: EntityTrait, C: Iden + IntoIden + Copy>(
    work: &Work,
    entity: E,
    key: C,
    time: C,
    before: i64,
) -> Result<u64, Error> {
    let mut gone = 0;
    loop {
        let old = Query::select()
            .column(key)
            .from(entity)
            .and_where(Expr::col(time).lte(before))
            .limit(CHUNK)
            .to_owned();
        // A look costs no write lock.
        if work.db().reader().query_one(&old).await?.is_none() {
            return Ok(gone);
        }
        let delete = Query::delete()
            .from_table(entity)
            .and_where(Expr::col(key).in_subquery(old))
            .to_owned();
        let unit = work.begin().await?;
        gone += unit.tx().execute(&delete).await?.rows_affected();
        unit.commit().await?;
    }
}
