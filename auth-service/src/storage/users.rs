//! Users.

use jiff::Timestamp;
use platform::Error;
use platform::time::to_micros;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, Insert, QueryFilter, QueryOrder,
    QuerySelect, Select,
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
    /// Both names, folded.
    pub name_search: String,
    /// The family name, folded.
    pub last_name_search: String,
}

/// What a search looks for; each is one walk along one index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The owner of a handle.
    Handle(String),
    /// The owner of a normalised address.
    Email(String),
    /// Everybody whose folded name begins with this, in the order of names.
    Name(String),
    /// Everybody else whose folded family name begins with this, in the order of family names.
    LastName(String),
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
        .col_expr(Column::LastNameSearch, val(user.last_name_search.clone()))
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

/// Users but for `searcher`, in the order of what is wanted and of their ids, after a position, at most `limit`.
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
    let query = search_query(searcher, wanted, after, limit);
    Ok(query.into_model::<Found>().all(db).await?)
}

fn search_query(
    searcher: Uuid,
    wanted: &Wanted,
    after: Option<(String, Uuid)>,
    limit: u64,
) -> Select<Entity> {
    let mut query = Entity::find()
        .select_only()
        .columns([
            Column::Id,
            Column::Handle,
            Column::FirstName,
            Column::LastName,
            Column::NameSearch,
            Column::LastNameSearch,
        ])
        .filter(Expr::col(Column::Id).ne(searcher))
        .limit(limit);
    let order = match wanted {
        Wanted::Handle(handle) => {
            return query.filter(Expr::col(Column::Handle).eq(handle.as_str()));
        }
        Wanted::Email(email) => {
            return query.filter(Expr::col(Column::EmailNormalised).eq(email.as_str()));
        }
        Wanted::Name(start) => {
            query = query.filter(begins_with(Column::NameSearch, start));
            Column::NameSearch
        }
        Wanted::LastName(start) => {
            query = query
                .filter(begins_with(Column::LastNameSearch, start))
                .filter(begins_with(Column::NameSearch, start).not());
            Column::LastNameSearch
        }
    };
    if let Some((name, id)) = after {
        let place = Expr::tuple([Expr::col(order), Expr::col(Column::Id)]);
        query = query.filter(place.gt(Expr::tuple([Expr::value(name), Expr::value(id)])));
    }
    query.order_by_asc(order).order_by_asc(Column::Id)
}

/// A range rather than LIKE: any index in the order of code points serves it, and nothing in the text is a wildcard.
fn begins_with(column: Column, start: &str) -> Condition {
    let from = Condition::all().add(Expr::col(column).gte(start));
    match behind(start) {
        Some(end) => from.add(Expr::col(column).lt(end)),
        None => from,
    }
}

/// The least text behind all that begin with `start`; `None` when there is none.
fn behind(start: &str) -> Option<String> {
    let mut end = start.to_owned();
    while let Some(last) = end.pop() {
        // The range skips the surrogates, which are no characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn next_version() -> Expr {
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
        /// The family name, folded.
        pub last_name_search: String,
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
    use platform::test_kit::TestPlatform;
    use sea_orm::{DbBackend, QueryTrait, Statement};

    use super::*;

    #[test]
    fn the_end_of_a_range_lies_behind_all_that_begin_alike() {
        assert_eq!(behind("rao").unwrap(), "rap");
        assert_eq!(behind("a\u{D7FF}").unwrap(), "a\u{E000}");
        assert_eq!(behind("a\u{10FFFF}").unwrap(), "b");
        assert_eq!(behind("\u{10FFFF}"), None);
    }

    #[tokio::test]
    async fn every_search_walks_along_an_index_and_sorts_nothing() {
        let platform = TestPlatform::start().await;
        let db = platform
            .database::<super::super::migrations::Migrator>("auth")
            .await;
        let after = Some(("rao".to_owned(), Uuid::nil()));
        for (wanted, after) in [
            (Wanted::Handle("KX48210735".into()), None),
            (Wanted::Email("asha@example.org".into()), None),
            (Wanted::Name("ra".into()), None),
            (Wanted::Name("ra".into()), after.clone()),
            (Wanted::LastName("ra".into()), None),
            (Wanted::LastName("ra".into()), after),
        ] {
            let search = search_query(Uuid::nil(), &wanted, after, 20).build(db.backend());
            let steps = plan(&db, search).await;
            let walks = match db.backend() {
                DbBackend::Postgres => {
                    steps.iter().all(|step| {
                        !step.contains("Sort")
                            && !step.contains("Seq Scan")
                            && !step.contains("Bitmap")
                    }) && steps
                        .iter()
                        .any(|step| step.contains("Index Scan using users_"))
                }
                _ => {
                    matches!(steps.as_slice(), [one] if one.starts_with("SEARCH users USING INDEX"))
                }
            };
            assert!(walks, "{wanted:?}: {steps:?}");
        }
    }

    /// How the database would do it.
    async fn plan(db: &platform::database::Database, query: Statement) -> Vec<String> {
        let (explain, column) = match db.backend() {
            DbBackend::Postgres => ("EXPLAIN (COSTS OFF)", "QUERY PLAN"),
            _ => ("EXPLAIN QUERY PLAN", "detail"),
        };
        let tx = db.begin().await.unwrap();
        if db.backend() == DbBackend::Postgres {
            // An empty table is read as a whole, whatever its indexes could do.
            let never = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off";
            tx.execute_unprepared(never).await.unwrap();
        }
        let explain = Statement {
            sql: format!("{explain} {}", query.sql),
            ..query
        };
        let steps = tx.query_all_raw(explain).await.unwrap();
        let steps = steps
            .iter()
            .map(|step| step.try_get("", column).unwrap())
            .collect();
        tx.rollback().await.unwrap();
        steps
    }
}
