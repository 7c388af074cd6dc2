//! The projection of users.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use platform::{Error, time};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::entities::payee::{ActiveModel, Column, Entity};
use crate::domain::{Payee, PayeeRef, PayeeState, UserId};

/// Some users, by every name that they answer to.
#[derive(Debug, Default)]
pub(crate) struct Payees {
    by_ref: HashMap<PayeeRef, UserId>,
    handles: HashMap<UserId, String>,
}

impl Payees {
    /// Who answers to that name.
    pub(crate) fn find(&self, name: &PayeeRef) -> Option<UserId> {
        self.by_ref.get(name).copied()
    }

    /// Public handle of a user.
    pub(crate) fn handle(&self, user: UserId) -> Option<&str> {
        self.handles.get(&user).map(String::as_str)
    }
}

/// Looks up users by any of their names, in one statement.
pub(crate) async fn find<'a>(
    db: &impl ConnectionTrait,
    names: impl IntoIterator<Item = &'a PayeeRef>,
) -> Result<Payees, Error> {
    let (mut handles, mut hashes, mut users) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for name in names {
        match name {
            PayeeRef::Handle(handle) => drop(handles.insert(handle.clone())),
            PayeeRef::EmailHash(hash) => drop(hashes.insert(hash.clone())),
            PayeeRef::User(user) => drop(users.insert(user.0)),
        }
    }
    let mut any = Condition::any();
    if !handles.is_empty() {
        any = any.add(Column::Handle.is_in(handles));
    }
    if !hashes.is_empty() {
        any = any.add(Column::EmailHash.is_in(hashes));
    }
    if !users.is_empty() {
        any = any.add(Column::UserId.is_in(users));
    }
    let mut found = Payees::default();
    if any.is_empty() {
        return Ok(found);
    }
    // An address that was freed and taken anew belongs to the one who registered last; ids rise with time.
    let rows: Vec<(Uuid, String, Vec<u8>, String)> = Entity::find()
        .select_only()
        .columns([
            Column::UserId,
            Column::Handle,
            Column::EmailHash,
            Column::State,
        ])
        .filter(any)
        .order_by_asc(Column::UserId)
        .into_tuple()
        .all(db)
        .await?;
    for (user, handle, hash, state) in rows {
        let user = UserId(user);
        found.by_ref.insert(PayeeRef::User(user), user);
        found.by_ref.insert(PayeeRef::Handle(handle.clone()), user);
        // Whoever merely claims an address is not paid by it.
        if state == PayeeState::Verified.as_str() {
            found.by_ref.insert(PayeeRef::EmailHash(hash), user);
        }
        found.handles.insert(user, handle);
    }
    Ok(found)
}

/// Writes down a user of whom nothing is known yet. Tells whether it did.
pub(crate) async fn add(
    tx: &impl ConnectionTrait,
    payee: Payee,
    now: Timestamp,
) -> Result<bool, Error> {
    let row = ActiveModel {
        user_id: Set(payee.user.0),
        handle: Set(payee.handle),
        email_hash: Set(payee.email_hash),
        state: Set(payee.state.as_str().to_owned()),
        version: Set(payee.version),
        created_at: Set(time::to_micros(now)),
    };
    let inserted = Entity::insert_many([row])
        .on_conflict(OnConflict::column(Column::UserId).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(inserted > 0)
}

/// Whether the user is known.
pub(crate) async fn knows(db: &impl ConnectionTrait, user: UserId) -> Result<bool, Error> {
    Ok(Entity::find_by_id(user.0).one(db).await?.is_some())
}

/// Moves a user to a state, unless something newer is known already.
pub(crate) async fn advance(
    tx: &impl ConnectionTrait,
    user: UserId,
    state: PayeeState,
    version: i64,
) -> Result<(), Error> {
    use sea_orm::sea_query::Expr;
    Entity::update_many()
        .col_expr(Column::State, Expr::value(state.as_str()))
        .col_expr(Column::Version, Expr::value(version))
        .filter(Column::UserId.eq(user.0))
        .filter(Column::Version.lt(version))
        .exec(tx)
        .await?;
    Ok(())
}
