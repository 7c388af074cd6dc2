//! Housekeeping that every service needs: what is remembered for a time is forgotten after it.

use std::time::Duration;

use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{Expr, ExprTrait, Query};

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

/// One round: forgets expired keys and inbox rows. Returns how many rows went.
///
/// # Errors
/// As any query.
pub async fn run(work: &Work) -> Result<u64, Error> {
    let now = work.now();
    let mut removed = 0;
    loop {
        let mut keys = Query::delete();
        let mut old = Query::select();
        old.columns([
            idempotency::row::Column::Scope,
            idempotency::row::Column::Key,
        ])
        .from(idempotency::row::Entity)
        .and_where(Expr::col(idempotency::row::Column::At).lt(time::to_micros(now - KEY_RETENTION)))
        .limit(BATCH);
        keys.from_table(idempotency::row::Entity).and_where(
            Expr::tuple([
                Expr::col(idempotency::row::Column::Scope),
                Expr::col(idempotency::row::Column::Key),
            ])
            .in_subquery(old),
        );
        let mut events = Query::delete();
        let mut seen = Query::select();
        seen.columns([inbox::Column::Consumer, inbox::Column::EventId])
            .from(inbox::Entity)
            .and_where(Expr::col(inbox::Column::At).lt(time::to_micros(now - INBOX_RETENTION)))
            .limit(BATCH);
        events.from_table(inbox::Entity).and_where(
            Expr::tuple([
                Expr::col(inbox::Column::Consumer),
                Expr::col(inbox::Column::EventId),
            ])
            .in_subquery(seen),
        );
        let mut letters = Query::delete();
        letters.from_table(dead_letter::Entity).and_where(
            Expr::col(dead_letter::Column::At).lt(time::to_micros(now - DEAD_LETTER_RETENTION)),
        );
        let unit = work.begin().await?;
        let forgotten = unit.tx().execute(&letters).await?.rows_affected();
        if forgotten > 0 {
            tracing::warn!(forgotten, "dead letters were too old to keep");
        }
        let gone = unit.tx().execute(&keys).await?.rows_affected()
            + unit.tx().execute(&events).await?.rows_affected();
        unit.commit().await?;
        removed += gone;
        if gone < BATCH {
            return Ok(removed);
        }
    }
}
