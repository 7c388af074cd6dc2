//! Tokens that were mailed, by their hashes.

use jiff::Timestamp;
use platform::Error;
use platform::time::{from_micros, to_micros};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

pub use entity::Model as EmailToken;
pub(super) use entity::{Column, Entity};

/// Inserts a token.
///
/// # Errors
/// As any query.
pub async fn insert(db: &impl ConnectionTrait, token: EmailToken) -> Result<(), Error> {
    let row = sea_orm::ActiveModelTrait::reset_all(entity::ActiveModel::from(token));
    Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

/// The token with this hash, unless it has expired.
///
/// # Errors
/// As any query.
pub async fn live(
    db: &impl ConnectionTrait,
    hash: &[u8],
    now: Timestamp,
) -> Result<Option<EmailToken>, Error> {
    Ok(Entity::find_by_id(hash.to_vec())
        .filter(Column::ExpiresAt.gt(to_micros(now)))
        .one(db)
        .await?)
}

/// When tokens were made for a user after `since`: the newest first, at most `limit`.
///
/// # Errors
/// As any query.
pub async fn made_since(
    db: &impl ConnectionTrait,
    user: Uuid,
    since: Timestamp,
    limit: u64,
) -> Result<Vec<Timestamp>, Error> {
    let times = Entity::find()
        .select_only()
        .column(Column::CreatedAt)
        .filter(Column::UserId.eq(user))
        .filter(Column::CreatedAt.gt(to_micros(since)))
        .order_by_desc(Column::CreatedAt)
        .limit(limit)
        .into_tuple::<i64>()
        .all(db)
        .await?;
    Ok(times.into_iter().map(from_micros).collect())
}

pub(super) mod entity {
    use sea_orm::entity::prelude::*;

    /// A row of `email_tokens`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "email_tokens")]
    pub struct Model {
        /// SHA-256 of the token.
        #[sea_orm(primary_key, auto_increment = false)]
        pub hash: Vec<u8>,
        /// Whom it was mailed to.
        pub user_id: Uuid,
        /// The normalised address that it was mailed to; it proves nothing about another one.
        pub email_normalised: String,
        /// When it was made, in unix microseconds.
        pub created_at: i64,
        /// When it expires, in unix microseconds.
        pub expires_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
