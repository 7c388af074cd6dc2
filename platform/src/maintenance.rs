//! Housekeeping that every service needs: what is remembered for a time is forgotten after it.

use std::time::Duration;

use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType, Order, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait};

use crate::backlog;
use crate::consumer::{INBOX_RETENTION, dead_letter, inbox};
use crate::shutdown::Tasks;
use crate::work::Work;
use crate::{Error, idempotency, time};

/// How long an idempotency key is remembered: twice the 24 hours that clients are promised.
pub const KEY_RETENTION: Duration = Duration::from_secs(48 * 3600);
/// How long a dead letter is kept for somebody to look at.
pub const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);
/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(600);
/// Rows removed in one transaction, so that no other writer waits long.
const BATCH: u64 = 1000;

/// Starts the housekeeping of a service's database.
pub fn spawn(work: Work, tasks: &Tasks) {
    let token = tasks.token();
    let counting = backlog::follow(
        "dead_letters",
        dead_letter::Entity,
        work.clone(),
        token.clone(),
    );
    tasks.spawn(format!("{}-dead-letters-count", work.source()), counting);
    tasks.spawn(format!("{}-maintenance", work.source()), async move {
        loop {
            if let Err(error) = run(&work).await {
                tracing::warn!(%error, "housekeeping failed, next round later");
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    });
}

/// One round: forgets expired keys, inbox rows and dead letters. Returns how many rows went.
///
/// # Errors
/// As any query.
pub async fn run(work: &Work) -> Result<u64, Error> {
    use dead_letter::Column as Letter;
    use idempotency::row::Column as Key;
    use inbox::Column as Seen;
    let now = work.now();
    let before = |age: Duration| now.checked_sub(age).map_or(i64::MIN, time::to_micros);

    let expired = before(KEY_RETENTION);
    let mut gone = forget(
        work,
        idempotency::row::Entity,
        &[Key::Scope, Key::Key],
        Key::At,
        expired,
    )
    .await?;
    let expired = before(INBOX_RETENTION);
    gone += forget(
        work,
        inbox::Entity,
        &[Seen::Consumer, Seen::EventId],
        Seen::At,
        expired,
    )
    .await?;
    let expired = before(DEAD_LETTER_RETENTION);
    let letters = forget(
        work,
        dead_letter::Entity,
        &[Letter::Consumer, Letter::EventId],
        Letter::At,
        expired,
    )
    .await?;
    if letters > 0 {
        tracing::warn!(letters, "dead letters were too old to keep");
    }
    Ok(gone + letters)
}

/// Removes the rows of a table whose `time` is at or before `before`, oldest first and in small transactions. `key` is
/// the table's primary key. Returns how many rows went.
///
/// Any number of replicas may do so at once: on PostgreSQL it never waits for rows that somebody else holds, but
/// leaves them to the next round, so it cannot stand in a circle of waiting.
///
/// # Errors
/// As any query.
pub async fn forget<C: ColumnTrait>(
    work: &Work,
    table: impl EntityTrait<Column = C>,
    key: &[C],
    time: C,
    before: i64,
) -> Result<u64, Error> {
    let mut gone = 0;
    loop {
        let mut old = Query::select();
        old.columns(key.iter().copied())
            .from(table)
            .and_where(Expr::col(time).lte(before))
            .order_by(time, Order::Asc)
            .limit(BATCH);
        // A look costs no write lock.
        let look = old.clone().limit(1).to_owned();
        if work.db().reader().query_one(&look).await?.is_none() {
            return Ok(gone);
        }
        // SQLite knows no such lock and needs none.
        old.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        let mut delete = Query::delete();
        delete
            .from_table(table)
            .and_where(Expr::tuple(key.iter().map(|column| Expr::col(*column))).in_subquery(old));
        let unit = work.begin().await?;
        let removed = unit.tx().execute(&delete).await?.rows_affected();
        unit.commit().await?;
        gone += removed;
        if removed < BATCH {
            return Ok(gone);
        }
    }
}
