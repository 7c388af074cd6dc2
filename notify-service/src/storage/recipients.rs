//! The projection of who is who.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::ROWS;
use super::entities::recipients::{Column, Entity};
use crate::domain::movement::Person;

/// Writes what users are called, unless something newer is known. They must be in the order of their ids, each once, so
/// that nobody waits in a circle.
pub(crate) async fn put(db: &impl ConnectionTrait, people: &[(Person, i64)]) -> Result<(), DbErr> {
    let newer = Expr::col((Entity, Column::Version)).lt(Expr::col(("excluded", Column::Version)));
    for people in people.chunks(ROWS) {
        let mut insert = Query::insert()
            .into_table(Entity)
            .columns([Column::UserId, Column::Handle, Column::Version])
            .on_conflict(
                OnConflict::column(Column::UserId)
                    .update_columns([Column::Handle, Column::Version])
                    .action_and_where(newer.clone())
                    .to_owned(),
            )
            .to_owned();
        for (person, version) in people {
            insert.values_panic([
                person.user_id.into(),
                person.handle.as_str().into(),
                (*version).into(),
            ]);
        }
        db.execute(&insert).await?;
    }
    Ok(())
}

/// Those of the users that are known, and the version of what is known.
pub(crate) async fn find(
    db: &impl ConnectionTrait,
    users: Vec<Uuid>,
) -> Result<Vec<(Person, i64)>, DbErr> {
    let rows = Entity::find()
        .filter(Column::UserId.is_in(users))
        .all(db)
        .await?;
    let person = |row: super::entities::recipients::Model| {
        let person = Person {
            user_id: row.user_id,
            handle: row.handle,
        };
        (person, row.version)
    };
    Ok(rows.into_iter().map(person).collect())
}
