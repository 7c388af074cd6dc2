//! The statements of the relay.

use jiff::Timestamp;
use sea_orm::sea_query::{
    Alias, CommonTableExpression, Expr, ExprTrait, LockBehavior, LockType, Order, Query,
    SelectStatement, UpdateStatement, WithQuery,
};
use uuid::Uuid;

use super::{BATCH, row};
use crate::time;

/// The ids of up to [`BATCH`] rows that nobody holds, oldest first.
pub(super) fn free_rows(now: Timestamp) -> SelectStatement {
    let mut free = Query::select();
    free.column(row::Column::Id)
        .from(row::Entity)
        .and_where(Expr::col(row::Column::LeasedUntil).lte(time::to_micros(now)))
        .order_by(row::Column::Id, Order::Asc)
        .limit(BATCH);
    free
}

/// The lease of PostgreSQL, where other relays look at the same time. The rows are chosen and locked in an expression of
/// their own: a subquery may be run more than once, and would then lock more than it gives.
pub(super) fn lease_apart(mut take: UpdateStatement, mut free: SelectStatement) -> WithQuery {
    free.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let name = Alias::new("free");
    let mut chosen = CommonTableExpression::new();
    chosen
        .table_name(name.clone())
        .column(row::Column::Id)
        .materialized(true)
        .query(free);
    let ids = Query::select()
        .column(row::Column::Id)
        .from(name)
        .to_owned();
    take.and_where(Expr::col(row::Column::Id).in_subquery(ids));
    take.with(Query::with().cte(chosen).to_owned())
}

/// The ids, the last of them repeated up to a power of two: a database keeps the plan of a statement by its text, and
/// so there are eight texts rather than one for each number of ids.
pub(super) fn few_shapes(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    if let Some(last) = ids.last().copied() {
        ids.resize(ids.len().next_power_of_two(), last);
    }
    ids
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_lease_chooses_its_rows_once() {
        let mut take = Query::update();
        take.table(row::Entity)
            .value(row::Column::LeasedUntil, 1)
            .returning_all();
        let text = lease_apart(take, free_rows(Timestamp::UNIX_EPOCH))
            .to_string(sea_orm::sea_query::PostgresQueryBuilder);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let begin = "WITH \"free\" (\"id\") AS MATERIALIZED (SELECT";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains("LIMIT 128 FOR UPDATE SKIP LOCKED"), "{text}");
    }

    #[test]
    fn ids_are_padded_and_never_lost() {
        for count in 1..=128 {
            let ids: Vec<_> = (0..count).map(Uuid::from_u128).collect();
            let padded = few_shapes(ids.clone());
            assert!(padded.len().is_power_of_two() && padded.len() <= 128);
            assert_eq!(padded.into_iter().collect::<HashSet<_>>().len(), ids.len());
        }
        assert!(few_shapes(Vec::new()).is_empty());
    }
}
