//! Sets of recipients that no schedule names: uploads under way, and sets that were replaced.

use jiff::Timestamp;
use platform::{Error, time};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DatabaseTransaction, QueryOrder, QuerySelect};

/// A row of `sms_uploads`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_uploads")]
pub(crate) struct Model {
    /// Id of the set.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// When rows last came; 0 when the set is not wanted any more.
    pub touched_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Begins an upload.
pub(crate) async fn begin(
    tx: &DatabaseTransaction,
    set_id: Uuid,
    now: Timestamp,
) -> Result<(), Error> {
    insert(tx, set_id, time::to_micros(now)).await
}

/// Gives a set that a schedule named to the sweeper.
pub(crate) async fn retire(tx: &DatabaseTransaction, set_id: Uuid) -> Result<(), Error> {
    insert(tx, set_id, 0).await
}

async fn insert(tx: &DatabaseTransaction, id: Uuid, touched_at: i64) -> Result<(), Error> {
    let row = ActiveModel {
        id: Set(id),
        touched_at: Set(touched_at),
    };
    Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Notes that rows came. Tells whether the upload is still wanted.
pub(crate) async fn touch(
    tx: &DatabaseTransaction,
    set_id: Uuid,
    now: Timestamp,
) -> Result<bool, Error> {
    let updated = Entity::update_many()
        .col_expr(Column::TouchedAt, Expr::val(time::to_micros(now)))
        .filter(Column::Id.eq(set_id))
        .filter(Expr::col(Column::TouchedAt).gt(0_i64))
        .exec(tx)
        .await?;
    Ok(updated.rows_affected == 1)
}

/// Gives a set to the sweeper, unless a schedule names it: from now on nothing can be added to it and no schedule can take it.
pub(crate) async fn abandon(tx: &DatabaseTransaction, set_id: Uuid) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::TouchedAt, Expr::val(0_i64))
        .filter(Column::Id.eq(set_id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Ends an upload. Tells whether it was still wanted.
pub(crate) async fn end(tx: &DatabaseTransaction, set_id: Uuid) -> Result<bool, Error> {
    let deleted = Entity::delete_many()
        .filter(Column::Id.eq(set_id))
        .filter(Expr::col(Column::TouchedAt).gt(0_i64))
        .exec(tx)
        .await?;
    Ok(deleted.rows_affected == 1)
}

/// Whether there is a set without a touch since `before`.
pub(crate) async fn any_untouched(
    db: &impl ConnectionTrait,
    before: Timestamp,
) -> Result<bool, Error> {
    Ok(untouched(before).one(db).await?.is_some())
}

/// The set without a touch since `before` that is longest untouched, of those that nobody else has locked; locked until the
/// transaction ends.
pub(crate) async fn lock_untouched(
    tx: &DatabaseTransaction,
    before: Timestamp,
) -> Result<Option<Uuid>, Error> {
    let row = untouched(before)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(tx)
        .await?;
    Ok(row.map(|row| row.id))
}

fn untouched(before: Timestamp) -> Select<Entity> {
    Entity::find()
        .filter(Column::TouchedAt.lt(time::to_micros(before)))
        .order_by_asc(Column::TouchedAt)
        .limit(1)
}

/// Forgets a set that has no messages left.
pub(crate) async fn forget(tx: &DatabaseTransaction, set_id: Uuid) -> Result<(), Error> {
    Entity::delete_by_id(set_id).exec(tx).await?;
    Ok(())
}
