//! Users.

use jiff::Timestamp;
use platform::Error;
use platform::time::to_micros;
use sea_orm::sea_query::{LikeExpr, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, Insert, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

pub use entity::Model as User;
use entity::{ActiveModel, Column, Entity};

use super::{at, val};

/// A user as others may see them.
#[derive(Debug, Clone, PartialEq, Eq, sea_orm::FromQueryResult)]
pub struct Found {
    /// UUIDv7.
    pub id: Uuid,
    /// Public wallet handle.
    pub handle: String,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Both names, folded: what the list is sorted by.
    pub name_search: String,
}

/// What a search looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The owner of a handle.
    Handle(String),
    /// The owner of a normalised address.
    Email(String),
    /// Everybody whose folded name holds this.
    Name(String),
}

/// Inserts a user; `false` when the handle or the address is taken.
///
/// # Errors
/// As any query.
pub async fn insert(db: &impl ConnectionTrait, user: User) -> Result<bool, Error> {
    let row = sea_orm::ActiveModelTrait::reset_all(ActiveModel::from(user));
    // A conflict that is an error would end the transaction on PostgreSQL.
    let inserted = Insert::one(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(db)
        .await?;
    Ok(inserted == 1)
}

/// The user with this id.
///
/// # Errors
/// As any query.
pub async fn by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<User>, Error> {
    Ok(Entity::find_by_id(id).one(db).await?)
}

/// The user with this normalised address.
///
/// # Errors
/// As any query.
pub async fn by_email(db: &impl ConnectionTrait, email: &str) -> Result<Option<User>, Error> {
    Ok(Entity::find()
        .filter(Column::EmailNormalised.eq(email))
        .one(db)
        .await?)
}

/// Marks an address as confirmed; `false` when it was, or when the user has another one by now.
///
/// # Errors
/// As any query.
pub async fn confirm_email(
    db: &impl ConnectionTrait,
    id: Uuid,
    email: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let outcome = Entity::update_many()
        .col_expr(Column::EmailVerified, val(true))
        .col_expr(Column::Version, next_version())
        .col_expr(Column::UpdatedAt, at(now))
        .filter(Column::Id.eq(id))
        .filter(Column::EmailNormalised.eq(email))
        .filter(Column::EmailVerified.eq(false))
        .exec(db)
        .await?;
    Ok(outcome.rows_affected == 1)
}

/// Notes that a verification mail goes out now; `false` when one went out after `since`.
///
/// # Errors
/// As any query.
pub async fn claim_verification_mail(
    db: &impl ConnectionTrait,
    id: Uuid,
    since: Timestamp,
    now: Timestamp,
) -> Result<bool, Error> {
    claim(db, id, Column::VerificationMailAt, since, now).await
}

/// Notes that the owner is told now of a registration with the address; `false` when that was done after `since`.
///
/// # Errors
/// As any query.
pub async fn claim_notice(
    db: &impl ConnectionTrait,
    id: Uuid,
    since: Timestamp,
    now: Timestamp,
) -> Result<bool, Error> {
    claim(db, id, Column::NoticeAt, since, now).await
}

async fn claim(
    db: &impl ConnectionTrait,
    id: Uuid,
    column: Column,
    since: Timestamp,
    now: Timestamp,
) -> Result<bool, Error> {
    let outcome = Entity::update_many()
        .col_expr(column, at(now))
        .filter(Column::Id.eq(id))
        .filter(
            Condition::any()
                .add(column.is_null())
                .add(column.lte(to_micros(since))),
        )
        .exec(db)
        .await?;
    Ok(outcome.rows_affected == 1)
}

/// Writes names, time zone and locale of `user` over the version that it was read with; `false` when there is another
/// version by now.
///
/// # Errors
/// As any query.
pub async fn save_profile(
    db: &impl ConnectionTrait,
    user: &User,
    now: Timestamp,
) -> Result<bool, Error> {
    let outcome = Entity::update_many()
        .col_expr(Column::FirstName, val(user.first_name.clone()))
        .col_expr(Column::LastName, val(user.last_name.clone()))
        .col_expr(Column::NameSearch, val(user.name_search.clone()))
        .col_expr(Column::TimeZone, val(user.time_zone.clone()))
        .col_expr(Column::Locale, val(user.locale.clone()))
        .col_expr(Column::Version, next_version())
        .col_expr(Column::UpdatedAt, at(now))
        .filter(Column::Id.eq(user.id))
        .filter(Column::Version.eq(user.version))
        .exec(db)
        .await?;
    Ok(outcome.rows_affected == 1)
}

/// Replaces a password hash, unless it was replaced since it was read.
///
/// # Errors
/// As any query.
pub async fn replace_hash(
    db: &impl ConnectionTrait,
    id: Uuid,
    old: &str,
    new: String,
) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::PasswordHash, val(new))
        .filter(Column::Id.eq(id))
        .filter(Column::PasswordHash.eq(old))
        .exec(db)
        .await?;
    Ok(())
}

/// Users but for `searcher`, by name and id, after a position, at most `limit`.
///
/// # Errors
/// As any query.
pub async fn search(
    db: &impl ConnectionTrait,
    searcher: Uuid,
    wanted: &Wanted,
    after: Option<(String, Uuid)>,
    limit: u64,
) -> Result<Vec<Found>, Error> {
    let mut query = Entity::find()
        .select_only()
        .columns([
            Column::Id,
            Column::Handle,
            Column::FirstName,
            Column::LastName,
            Column::NameSearch,
        ])
        .filter(Column::Id.ne(searcher));
    query = match wanted {
        Wanted::Handle(handle) => query.filter(Column::Handle.eq(handle)),
        Wanted::Email(email) => query.filter(Column::EmailNormalised.eq(email)),
        Wanted::Name(part) => {
            let pattern = LikeExpr::new(format!("%{}%", escape_like(part))).escape('\\');
            query.filter(Column::NameSearch.like(pattern))
        }
    };
    if let Some((name, id)) = after {
        query = query.filter(
            Condition::any()
                .add(Column::NameSearch.gt(name.clone()))
                .add(
                    Condition::all()
                        .add(Column::NameSearch.eq(name))
                        .add(Column::Id.gt(id)),
                ),
        );
    }
    let found = query
        .order_by_asc(Column::NameSearch)
        .order_by_asc(Column::Id)
        .limit(limit)
        .into_model::<Found>()
        .all(db)
        .await?;
    Ok(found)
}

/// Takes their meaning from the wildcards of LIKE.
fn escape_like(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn next_version() -> sea_orm::sea_query::Expr {
    use sea_orm::sea_query::{Expr, ExprTrait};
    Expr::col(Column::Version).add(1)
}

mod entity {
    use sea_orm::entity::prelude::*;

    /// A row of `users`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "users")]
    pub struct Model {
        /// UUIDv7.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// Public wallet handle.
        #[sea_orm(unique)]
        pub handle: String,
        /// Given name.
        pub first_name: String,
        /// Family name.
        pub last_name: String,
        /// Both names, folded.
        pub name_search: String,
        /// Address as the user wrote it.
        pub email: String,
        /// The form in which addresses are compared.
        #[sea_orm(unique)]
        pub email_normalised: String,
        /// Whether the address was confirmed.
        pub email_verified: bool,
        /// Name of a [`platform::token::Role`].
        pub role: String,
        /// PHC string.
        pub password_hash: String,
        /// IANA time zone.
        pub time_zone: String,
        /// BCP 47 language tag.
        pub locale: String,
        /// Rises with each change that others may see.
        pub version: i64,
        /// Rises with each change of what the user may do.
        pub grants_version: i64,
        /// When the last verification mail was asked for, in unix microseconds.
        pub verification_mail_at: Option<i64>,
        /// When the owner was last told of a registration with the address, in unix microseconds.
        pub notice_at: Option<i64>,
        /// When the user registered, in unix microseconds.
        pub created_at: i64,
        /// When the row was last changed, in unix microseconds.
        pub updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[cfg(test)]
mod tests {
    use super::escape_like;

    #[test]
    fn wildcards_lose_their_meaning() {
        assert_eq!(escape_like(r"100%_\a"), r"100\%\_\\a");
    }
}
