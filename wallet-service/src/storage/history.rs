//! History of one user: two ordered scans, one for each direction, so that a page costs the same at any depth.

use jiff::Timestamp;
use platform::database::Database;
use platform::{Error, time};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::entities::transaction::{Column, Entity};
use super::migrations::VISIBLE_TO_PAYEE;
use super::payees::{self, Payees};
use super::snapshot;
use super::transactions::{TransactionRecord, record};
use crate::domain::{AccountId, PayeeRef, TransactionId, UserId};

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

/// Up to `limit` transactions of a user before `after`, newest first, and the users in them.
///
/// Ids are UUIDv7 that the posters make when it is a transaction's turn, so they are the order of time and a position
/// between two pages. Both scans see the same moment, so nothing can slip in between them.
pub(crate) async fn page(
    db: &Database,
    user: UserId,
    filter: &HistoryFilter,
    after: Option<TransactionId>,
    limit: u64,
) -> Result<(Vec<TransactionRecord>, Payees), Error> {
    let tx = snapshot(db).await?;
    let mut found = Vec::new();
    for direction in [Direction::In, Direction::Out] {
        if filter.direction.is_none_or(|only| only == direction) {
            found.extend(one_way(&tx, user, direction, filter, after, limit).await?);
        }
    }
    found.sort_unstable_by_key(|one| std::cmp::Reverse(one.id));
    // A refused payment to oneself is found by one scan only, because a payee does not see refusals.
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let parties = parties(&tx, &found).await?;
    tx.rollback().await?;
    Ok((found, parties))
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

/// One transaction, whoever its parties are, and those.
pub(crate) async fn get(
    db: &Database,
    id: TransactionId,
) -> Result<Option<(TransactionRecord, Payees)>, Error> {
    let Some(row) = Entity::find_by_id(id.0).one(db.reader()).await? else {
        return Ok(None);
    };
    let record = record(row)?;
    let parties = parties(db.reader(), std::slice::from_ref(&record)).await?;
    Ok(Some((record, parties)))
}

async fn parties(
    db: &impl ConnectionTrait,
    records: &[TransactionRecord],
) -> Result<Payees, Error> {
    let users = records
        .iter()
        .flat_map(|one| [one.from.user, one.to.user])
        .flatten();
    let names: Vec<PayeeRef> = users.map(PayeeRef::User).collect();
    payees::find(db, &names).await
}
