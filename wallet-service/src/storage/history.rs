//! History of one user: two ordered scans, one for each direction, so that a page costs the same at any depth.

use jiff::Timestamp;
use platform::{Error, time};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::entities::transaction::{Column, Entity};
use super::migrations::VISIBLE_TO_PAYEE;
use super::transactions::{TransactionRecord, record};
use crate::domain::{AccountId, TransactionId, UserId};

/// Which way money went, from the viewer's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the viewer.
    In,
    /// From the viewer.
    Out,
}

impl Direction {
    /// Stable name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What to keep of a history. Empty fields keep all.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistoryFilter {
    /// One direction only.
    pub(crate) direction: Option<Direction>,
    /// One category only.
    pub(crate) category: Option<String>,
    /// One status only.
    pub(crate) status: Option<String>,
    /// At or after.
    pub(crate) since: Option<Timestamp>,
    /// Before.
    pub(crate) until: Option<Timestamp>,
    /// One of the user's accounts only.
    pub(crate) account: Option<AccountId>,
    /// One other side only.
    pub(crate) counterparty: Option<UserId>,
}

/// Up to `limit` transactions of a user before `after`, newest first.
///
/// Ids are UUIDv7 that the poster makes in rising order, so they are the order of time and a position between
/// two pages.
pub(crate) async fn page(
    db: &impl ConnectionTrait,
    user: UserId,
    filter: &HistoryFilter,
    after: Option<TransactionId>,
    limit: u64,
) -> Result<Vec<TransactionRecord>, Error> {
    let mut found = Vec::new();
    for direction in [Direction::In, Direction::Out] {
        if filter.direction.is_none_or(|only| only == direction) {
            found.extend(one_way(db, user, direction, filter, after, limit).await?);
        }
    }
    found.sort_unstable_by_key(|one| std::cmp::Reverse(one.id));
    // A refused payment to oneself is found by one scan only, because a payee does not see refusals.
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

async fn one_way(
    db: &impl ConnectionTrait,
    user: UserId,
    direction: Direction,
    filter: &HistoryFilter,
    after: Option<TransactionId>,
    limit: u64,
) -> Result<Vec<TransactionRecord>, Error> {
    let (own, own_account, other) = match direction {
        Direction::In => (Column::ToUserId, Column::ToAccountId, Column::FromUserId),
        Direction::Out => (Column::FromUserId, Column::FromAccountId, Column::ToUserId),
    };
    let mut all = Condition::all()
        .add(own.eq(user.0))
        .add_option(after.map(|id| Column::Id.lt(id.0)))
        .add_option(
            filter
                .category
                .as_ref()
                .map(|name| Column::Category.eq(name.as_str())),
        )
        .add_option(
            filter
                .status
                .as_ref()
                .map(|name| Column::Status.eq(name.as_str())),
        )
        .add_option(
            filter
                .since
                .map(|at| Column::CreatedAt.gte(time::to_micros(at))),
        )
        .add_option(
            filter
                .until
                .map(|at| Column::CreatedAt.lt(time::to_micros(at))),
        )
        .add_option(filter.account.map(|account| own_account.eq(account.0)))
        .add_option(filter.counterparty.map(|user| other.eq(user.0)));
    if direction == Direction::In {
        // The very words of the index, so that both databases use it.
        all = all.add(Expr::cust(VISIBLE_TO_PAYEE));
    }
    Entity::find()
        .filter(all)
        .order_by_desc(Column::Id)
        .limit(limit)
        .all(db)
        .await?
        .into_iter()
        .map(record)
        .collect()
}

/// One transaction, whoever its parties are.
pub(crate) async fn get(
    db: &impl ConnectionTrait,
    id: TransactionId,
) -> Result<Option<TransactionRecord>, Error> {
    Entity::find_by_id(id.0)
        .one(db)
        .await?
        .map(record)
        .transpose()
}
