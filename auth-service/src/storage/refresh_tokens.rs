//! Refresh tokens, by their hashes. Exchanged ones are kept as long as they would have lived, so that a second use shows.

use jiff::Timestamp;
use platform::Error;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

pub use entity::Model as RefreshToken;
pub(super) use entity::{Column, Entity};

use super::at;

/// Inserts a token.
///
/// # Errors
/// As any query.
pub async fn insert(db: &impl ConnectionTrait, token: RefreshToken) -> Result<(), Error> {
    let row = sea_orm::ActiveModelTrait::reset_all(entity::ActiveModel::from(token));
    Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

/// The token with this hash.
///
/// # Errors
/// As any query.
pub async fn by_hash(
    db: &impl ConnectionTrait,
    hash: &[u8],
) -> Result<Option<RefreshToken>, Error> {
    Ok(Entity::find_by_id(hash.to_vec()).one(db).await?)
}

/// Marks a token as exchanged; `false` when it was before. Of any number that try at once, one gets `true`.
///
/// # Errors
/// As any query.
pub async fn rotate(db: &impl ConnectionTrait, hash: &[u8], now: Timestamp) -> Result<bool, Error> {
    let outcome = Entity::update_many()
        .col_expr(Column::RotatedAt, at(now))
        .filter(Column::Hash.eq(hash))
        .filter(Column::RotatedAt.is_null())
        .exec(db)
        .await?;
    Ok(outcome.rows_affected == 1)
}

pub(super) mod entity {
    use sea_orm::entity::prelude::*;

    /// A row of `refresh_tokens`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "refresh_tokens")]
    pub struct Model {
        /// SHA-256 of the token.
        #[sea_orm(primary_key, auto_increment = false)]
        pub hash: Vec<u8>,
        /// The session that it keeps alive.
        pub session_id: Uuid,
        /// When it expires, in unix microseconds.
        pub expires_at: i64,
        /// When it was exchanged, in unix microseconds.
        pub rotated_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
