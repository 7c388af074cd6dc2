//! How much waits in a table, as a metric.

use std::time::Duration;

use sea_orm::sea_query::{Alias, Expr, IntoTableRef, Query};
use sea_orm::{ConnectionTrait, EntityTrait};
use tokio_util::sync::CancellationToken;

use crate::work::Work;

/// How often it is counted.
const EVERY: Duration = Duration::from_secs(10);
/// More than this is not counted: it is a lot either way, and counting all of it would be work.
const UP_TO: u64 = 100_000;

/// Counts the rows of a table into a gauge, again and again until the token is cancelled.
pub(crate) async fn follow<E>(gauge: &'static str, table: E, work: Work, token: CancellationToken)
where
    E: EntityTrait + IntoTableRef,
{
    let gauge = metrics::gauge!(gauge, "service" => work.source());
    let mut some = Query::select();
    some.expr(Expr::val(1)).from(table).limit(UP_TO);
    let mut count = Query::select();
    count
        .expr_as(Expr::cust("count(*)"), "waiting")
        .from_subquery(some, Alias::new("some"));
    loop {
        match work.db().reader().query_one(&count).await {
            Ok(Some(result)) => {
                let waiting: i64 = result.try_get("", "waiting").unwrap_or_default();
                gauge.set(waiting as f64);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a table could not be counted"),
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
