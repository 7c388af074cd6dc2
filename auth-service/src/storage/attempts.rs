//! Failed tries, counted by subject.

use jiff::Timestamp;
use platform::Error;
use platform::time::{from_micros, to_micros};
use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

pub(super) use entity::{Column, Entity};

use super::{at, val};
use crate::domain::throttle::Counter;

/// The failures of a subject, as they were committed.
///
/// # Errors
/// As any query.
pub async fn read(db: &impl ConnectionTrait, subject: &str) -> Result<Option<Counter>, Error> {
    Ok(Entity::find_by_id(subject)
        .one(db)
        .await?
        .map(|row| counter(&row)))
}

/// The failures of a subject, which nobody else can change before the transaction ends: of any number of tries at
/// once, each sees the failures of those before it.
///
/// # Errors
/// As any query.
pub async fn lock(
    tx: &impl ConnectionTrait,
    subject: &str,
    now: Timestamp,
) -> Result<Option<Counter>, Error> {
    // An update that changes nothing is the one row lock that both databases know.
    let same = Expr::col((Entity, Column::Failures));
    let insert = Query::insert()
        .into_table(Entity)
        .columns([
            Column::Subject,
            Column::Failures,
            Column::FirstAt,
            Column::LastAt,
        ])
        .values_panic([val(subject), val(0), at(now), at(now)])
        .on_conflict(
            OnConflict::column(Column::Subject)
                .value(Column::Failures, same)
                .to_owned(),
        )
        .to_owned();
    tx.execute(&insert).await?;
    Ok(read(tx, subject)
        .await?
        .filter(|counter| counter.failures > 0))
}

/// Stores the failures of a subject that is locked.
///
/// # Errors
/// As any query.
pub async fn save(
    tx: &impl ConnectionTrait,
    subject: &str,
    counter: &Counter,
) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(
            Column::Failures,
            val(i32::try_from(counter.failures).unwrap_or(i32::MAX)),
        )
        .col_expr(Column::FirstAt, at(counter.first_at))
        .col_expr(Column::LastAt, at(counter.last_at))
        .filter(Column::Subject.eq(subject))
        .exec(tx)
        .await?;
    Ok(())
}

fn counter(row: &entity::Model) -> Counter {
    Counter {
        failures: u32::try_from(row.failures).unwrap_or(0),
        first_at: from_micros(row.first_at),
        last_at: from_micros(row.last_at),
    }
}

/// Failures older than this may be forgotten, whatever the window.
pub(super) fn forgettable(now: Timestamp) -> i64 {
    to_micros(now).saturating_sub(2 * 86_400 * 1_000_000)
}

pub(super) mod entity {
    use sea_orm::entity::prelude::*;

    /// A row of `attempts`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "attempts")]
    pub(crate) struct Model {
        /// What failed, e.g. sign-in, and for whom.
        #[sea_orm(primary_key, auto_increment = false)]
        pub subject: String,
        /// Failures since `first_at`.
        pub failures: i32,
        /// The first of them, in unix microseconds.
        pub first_at: i64,
        /// The last of them, in unix microseconds.
        pub last_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
