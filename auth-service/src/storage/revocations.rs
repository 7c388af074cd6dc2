//! Sessions that were ended before their time, as long as an access token of theirs may live.

use jiff::Timestamp;
use platform::Error;
use platform::time::{from_micros, to_micros};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

pub(super) use entity::{Column, Entity};

/// A session and until when it is to be remembered as revoked.
pub type Revoked = (Uuid, Timestamp);

/// Remembers sessions as revoked.
///
/// # Errors
/// As any query.
pub async fn insert(
    db: &impl ConnectionTrait,
    sessions: &[Uuid],
    until: Timestamp,
    now: Timestamp,
) -> Result<(), Error> {
    if sessions.is_empty() {
        return Ok(());
    }
    let rows = sessions.iter().map(|session| entity::ActiveModel {
        session_id: Set(*session),
        revoked_at: Set(to_micros(now)),
        until: Set(to_micros(until)),
    });
    Entity::insert_many(rows)
        .on_conflict(
            OnConflict::column(Column::SessionId)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Sessions that were revoked after `since` and are still to be remembered.
///
/// # Errors
/// As any query.
pub async fn since(
    db: &impl ConnectionTrait,
    since: Timestamp,
    now: Timestamp,
) -> Result<Vec<Revoked>, Error> {
    let rows = Entity::find()
        .filter(Column::RevokedAt.gt(to_micros(since)))
        .filter(Column::Until.gt(to_micros(now)))
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.session_id, from_micros(row.until)))
        .collect())
}

pub(super) mod entity {
    use sea_orm::entity::prelude::*;

    /// A row of `revocations`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "revocations")]
    pub(crate) struct Model {
        /// The session.
        #[sea_orm(primary_key, auto_increment = false)]
        pub session_id: Uuid,
        /// When it was revoked, in unix microseconds.
        pub revoked_at: i64,
        /// When its last access token has expired, in unix microseconds.
        pub until: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
