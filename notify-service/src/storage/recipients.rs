//! The projection of who is who.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::entities::recipients::{Column, Entity};
use crate::domain::movement::Person;

/// Writes what a user is called, unless something newer is known.
pub(crate) async fn put(
    db: &impl ConnectionTrait,
    person: &Person,
    version: i64,
) -> Result<(), DbErr> {
    let newer = Expr::col((Entity, Column::Version)).lt(Expr::val(version));
    let statement = Query::insert()
        .into_table(Entity)
        .columns([Column::UserId, Column::Handle, Column::Version])
        .values_panic([
            person.user_id.into(),
            person.handle.as_str().into(),
            version.into(),
        ])
        .on_conflict(
            OnConflict::column(Column::UserId)
                .update_columns([Column::Handle, Column::Version])
                .action_and_where(newer)
                .to_owned(),
        )
        .to_owned();
    db.execute(&statement).await?;
    Ok(())
}

/// Those of the users that are known.
pub(crate) async fn find(
    db: &impl ConnectionTrait,
    users: &[Uuid],
) -> Result<HashMap<Uuid, Person>, DbErr> {
    let rows = Entity::find()
        .filter(Column::UserId.is_in(users.iter().copied()))
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            (
                row.user_id,
                Person {
                    user_id: row.user_id,
                    handle: row.handle,
                },
            )
        })
        .collect())
}
