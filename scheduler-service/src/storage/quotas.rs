//! Recipients that each user put into schedules, by UTC day.

use platform::Error;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DatabaseTransaction};

/// A row of `sms_daily_recipients`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_daily_recipients")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// Days from 1970-01-01.
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: i64,
    pub recipients: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Adds `recipients`, which may be negative, to a day of the user, and gives the day's new sum. The row stays locked until
/// the transaction ends, so two at once cannot both use what is left.
pub(crate) async fn add(
    tx: &DatabaseTransaction,
    user_id: Uuid,
    day: i64,
    recipients: i64,
) -> Result<i64, Error> {
    let row = ActiveModel {
        user_id: Set(user_id),
        day: Set(day),
        recipients: Set(recipients),
    };
    let sum = Expr::col((Entity, Column::Recipients)).add(recipients);
    Entity::insert(row)
        .on_conflict(
            OnConflict::columns([Column::UserId, Column::Day])
                .value(Column::Recipients, sum)
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    on(tx, user_id, day).await
}

/// Recipients on a day of the user.
pub(crate) async fn on(db: &impl ConnectionTrait, user_id: Uuid, day: i64) -> Result<i64, Error> {
    let row = Entity::find_by_id((user_id, day)).one(db).await?;
    Ok(row.map_or(0, |row| row.recipients))
}
