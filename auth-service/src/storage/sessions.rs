//! Sessions: one for each sign-in, and the family of its refresh tokens.

use jiff::Timestamp;
use platform::Error;
use platform::time::to_micros;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

pub use entity::Model as Session;
pub(super) use entity::{Column, Entity};

use super::{at, val};

/// Inserts a session.
///
/// # Errors
/// As any query.
pub async fn insert(db: &impl ConnectionTrait, session: Session) -> Result<(), Error> {
    let row = sea_orm::ActiveModelTrait::reset_all(entity::ActiveModel::from(session));
    Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

/// The session with this id.
///
/// # Errors
/// As any query.
pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Session>, Error> {
    Ok(Entity::find_by_id(id).one(db).await?)
}

/// Notes the use of a session and its new end; `false` when it has ended or expired.
///
/// # Errors
/// As any query.
pub async fn touch(
    db: &impl ConnectionTrait,
    id: Uuid,
    ip: &str,
    user_agent: &str,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<bool, Error> {
    let outcome = Entity::update_many()
        .col_expr(Column::Ip, val(ip))
        .col_expr(Column::UserAgent, val(user_agent))
        .col_expr(Column::LastSeenAt, at(now))
        .col_expr(Column::ExpiresAt, at(expires_at))
        .filter(Column::Id.eq(id))
        .filter(Column::EndedAt.is_null())
        .filter(Column::ExpiresAt.gt(to_micros(now)))
        .exec(db)
        .await?;
    Ok(outcome.rows_affected == 1)
}

/// Ends a session; `false` when it had ended before.
///
/// # Errors
/// As any query.
pub async fn end(
    db: &impl ConnectionTrait,
    id: Uuid,
    reason: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let outcome = Entity::update_many()
        .col_expr(Column::EndedAt, at(now))
        .col_expr(Column::EndReason, val(reason))
        .filter(Column::Id.eq(id))
        .filter(Column::EndedAt.is_null())
        .exec(db)
        .await?;
    Ok(outcome.rows_affected == 1)
}

/// The first `limit` sessions, in the order of their ids, of a user that began by `began_by`, were not ended, and whose time was not up at `live_at`.
///
/// # Errors
/// As any query.
pub async fn open_of(
    db: &impl ConnectionTrait,
    user: Uuid,
    began_by: Timestamp,
    live_at: Timestamp,
    limit: u64,
) -> Result<Vec<Uuid>, Error> {
    Ok(Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::UserId.eq(user))
        .filter(Column::EndedAt.is_null())
        .filter(Column::CreatedAt.lte(to_micros(began_by)))
        .filter(Column::ExpiresAt.gt(to_micros(live_at)))
        // Those who end them lock them in this order, so that two never wait for each other in a circle.
        .order_by_asc(Column::Id)
        .limit(limit)
        .into_tuple::<Uuid>()
        .all(db)
        .await?)
}

pub(super) mod entity {
    use sea_orm::entity::prelude::*;

    /// A row of `sessions`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "sessions")]
    pub struct Model {
        /// UUIDv7.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// Who signed in.
        pub user_id: Uuid,
        /// What the user calls the device; may be empty.
        pub device_name: String,
        /// Where it was last used from.
        pub ip: String,
        /// What it was last used with.
        pub user_agent: String,
        /// Whether it was to be remembered.
        pub remembered: bool,
        /// When the user signed in, in unix microseconds.
        pub created_at: i64,
        /// When it was last used, in unix microseconds.
        pub last_seen_at: i64,
        /// When it ends unless it is used, in unix microseconds.
        pub expires_at: i64,
        /// When it was ended before its time, in unix microseconds.
        pub ended_at: Option<i64>,
        /// Why.
        pub end_reason: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
