//! Sessions that were ended before their time, as long as an access token of theirs may live.

use jiff::Timestamp;
use platform::Error;
use platform::database::Database;
use platform::time::{from_micros, to_micros};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, Statement,
};
use uuid::Uuid;

pub(super) use entity::{Column, Entity};

/// A session and until when it is to be remembered as revoked.
pub type Revoked = (Uuid, Timestamp);

/// On SQLite, how far back each look goes: longer than a transaction of the one process takes.
const OVERLAP_MICROS: i64 = 10_000_000;

/// How far a look at the table has come. The default is before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The session of PostgreSQL that looked.
    session: i32,
    /// PostgreSQL: whoever has a lower transaction id had ended. SQLite: when it was, in unix microseconds.
    seen: i64,
}

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

/// Sessions whose revocation was committed since the look that gave `position`, and where this look has come to. Some
/// may be told again, none is left out: neither one whose transaction took long, nor one by a replica whose clock is
/// wrong.
///
/// # Errors
/// As any query.
pub async fn since(
    db: &Database,
    position: Position,
    now: Timestamp,
) -> Result<(Vec<Revoked>, Position), Error> {
    if db.backend() != DbBackend::Postgres {
        return since_time(db.reader(), position, now).await;
    }
    let (found, reached) = since_transaction(db.reader(), position.seen, now).await?;
    // Another session may be one with another server, e.g. after a fail-over, whose ids may be other ones.
    if reached.session == position.session && reached.seen >= position.seen {
        return Ok((found, reached));
    }
    since_transaction(db.reader(), 0, now).await
}

/// Each row bears the id of the transaction that wrote it. Ids lower than the lowest one that is under way belong to
/// transactions that have ended, so whatever this statement does not see yet has an id that the next look asks for.
async fn since_transaction(
    db: &impl ConnectionTrait,
    seen: i64,
    now: Timestamp,
) -> Result<(Vec<Revoked>, Position), Error> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT pg_backend_pid() AS session, \
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS seen, r.session_id, r.until \
         FROM (SELECT 1) AS one \
         LEFT JOIN revocations AS r ON r.transaction_id >= $1 AND r.until > $2",
        [seen.into(), to_micros(now).into()],
    );
    let (mut found, mut reached) = (Vec::new(), Position::default());
    for row in db.query_all_raw(statement).await? {
        reached = Position {
            session: row.try_get("", "session")?,
            seen: row.try_get("", "seen")?,
        };
        let revoked: (Option<Uuid>, Option<i64>) =
            (row.try_get("", "session_id")?, row.try_get("", "until")?);
        if let (Some(session), Some(until)) = revoked {
            found.push((session, from_micros(until)));
        }
    }
    Ok((found, reached))
}

/// On SQLite there is one process with one writer, so times are enough.
async fn since_time(
    db: &impl ConnectionTrait,
    position: Position,
    now: Timestamp,
) -> Result<(Vec<Revoked>, Position), Error> {
    let since = position.seen.saturating_sub(OVERLAP_MICROS);
    let rows = Entity::find()
        .filter(Column::RevokedAt.gt(since))
        .filter(Column::Until.gt(to_micros(now)))
        .all(db)
        .await?;
    let found = rows
        .into_iter()
        .map(|row| (row.session_id, from_micros(row.until)))
        .collect();
    // Should the clock be set back, the looks go back with it.
    let reached = Position {
        session: 0,
        seen: to_micros(now),
    };
    Ok((found, reached))
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
