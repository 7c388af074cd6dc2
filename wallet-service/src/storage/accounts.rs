//! Accounts: opened once, locked in the order of their ids, saved in one statement.

use std::collections::HashMap;

use jiff::Timestamp;
use platform::{Error, time};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::entities::account::{ActiveModel, Column, Entity, Model};
use crate::domain::{Account, AccountId, AccountStatus, Currency, Owner, UserId};

/// An account together with when it was opened.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) account: Account,
    pub(crate) created_at: Timestamp,
}

/// Where the accounts of some users are.
#[derive(Debug, Default)]
pub(crate) struct Directory(HashMap<UserId, Vec<(Currency, AccountId)>>);

impl Directory {
    /// Whether the user has any account.
    pub(crate) fn knows(&self, user: UserId) -> bool {
        self.0.contains_key(&user)
    }

    /// The user's account in a currency.
    pub(crate) fn find(&self, user: UserId, currency: Currency) -> Option<AccountId> {
        let accounts = self.0.get(&user)?;
        accounts
            .iter()
            .find(|one| one.0 == currency)
            .map(|one| one.1)
    }

    /// Whether this account is the user's.
    pub(crate) fn owns(&self, user: UserId, account: AccountId) -> bool {
        self.0
            .get(&user)
            .is_some_and(|all| all.iter().any(|one| one.1 == account))
    }
}

/// Where the accounts of `users` are. Accounts never change owner or currency, so no lock is needed.
pub(crate) async fn directory(
    db: &impl ConnectionTrait,
    users: impl IntoIterator<Item = UserId>,
) -> Result<Directory, Error> {
    let rows: Vec<(Uuid, Uuid, String)> = Entity::find()
        .select_only()
        .columns([Column::UserId, Column::Id, Column::Currency])
        .filter(Column::UserId.is_in(users.into_iter().map(|user| user.0)))
        .into_tuple()
        .all(db)
        .await?;
    let mut directory = Directory::default();
    for (user, account, currency) in rows {
        let found = (parse_currency(&currency)?, AccountId(account));
        directory.0.entry(UserId(user)).or_default().push(found);
    }
    Ok(directory)
}

/// Reads accounts and holds them until the transaction ends, in the order of their ids, so that two batches
/// never wait for each other in a circle. On SQLite the one writer is alone and no lock is needed.
pub(crate) async fn lock(
    tx: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = AccountId>,
) -> Result<Vec<Opened>, Error> {
    Entity::find()
        .filter(Column::Id.is_in(ids.into_iter().map(|id| id.0)))
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?
        .into_iter()
        .map(opened)
        .collect()
}

/// Writes balances and versions of accounts that are locked, in one statement on both databases.
pub(crate) async fn save(
    tx: &impl ConnectionTrait,
    accounts: impl IntoIterator<Item = Opened>,
) -> Result<(), Error> {
    let rows: Vec<ActiveModel> = accounts.into_iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    // The rows are there, so this is an UPDATE of many rows with many values that SQLite and
    // PostgreSQL write alike.
    let update = OnConflict::column(Column::Id)
        .update_columns([Column::PostedMinor, Column::PendingMinor, Column::Version])
        .to_owned();
    Entity::insert_many(rows)
        .on_conflict(update)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// Opens an account unless its owner has one in that currency. Tells whether it did.
pub(crate) async fn open(
    tx: &impl ConnectionTrait,
    account: Account,
    now: Timestamp,
) -> Result<bool, Error> {
    let target = match account.owner {
        Owner::User(_) => [Column::UserId, Column::Currency],
        Owner::External(_) => [Column::Source, Column::Currency],
    };
    let inserted = Entity::insert_many([row(Opened {
        account,
        created_at: now,
    })])
    .on_conflict(OnConflict::columns(target).do_nothing().to_owned())
    .exec_without_returning(tx)
    .await?;
    Ok(inserted > 0)
}

/// The accounts of a user, oldest first.
pub(crate) async fn of_user(db: &impl ConnectionTrait, user: UserId) -> Result<Vec<Opened>, Error> {
    Entity::find()
        .filter(Column::UserId.eq(user.0))
        .order_by_asc(Column::Id)
        .all(db)
        .await?
        .into_iter()
        .map(opened)
        .collect()
}

/// The account of the world outside for a source and a currency.
pub(crate) async fn external(
    db: &impl ConnectionTrait,
    source: &str,
    currency: Currency,
) -> Result<Option<AccountId>, Error> {
    let found = Entity::find()
        .filter(Column::Source.eq(source))
        .filter(Column::Currency.eq(currency.code()))
        .one(db)
        .await?;
    Ok(found.map(|row| AccountId(row.id)))
}

fn row(opened: Opened) -> ActiveModel {
    let Opened {
        account,
        created_at,
    } = opened;
    let (user_id, source) = match account.owner {
        Owner::User(user) => (Some(user.0), None),
        Owner::External(source) => (None, Some(source)),
    };
    ActiveModel {
        id: Set(account.id.0),
        user_id: Set(user_id),
        source: Set(source),
        currency: Set(account.currency.code().to_owned()),
        posted_minor: Set(account.posted_minor),
        pending_minor: Set(account.pending_minor),
        floor_minor: Set(account.floor_minor),
        version: Set(account.version),
        status: Set(account.status.as_str().to_owned()),
        created_at: Set(time::to_micros(created_at)),
    }
}

fn opened(row: Model) -> Result<Opened, Error> {
    let owner = match (row.user_id, row.source) {
        (Some(user), None) => Owner::User(UserId(user)),
        (None, Some(source)) => Owner::External(source),
        _ => {
            return Err(Error::internal(anyhow::anyhow!(
                "account {} has no one owner",
                row.id
            )));
        }
    };
    let status = match row.status.as_str() {
        "open" => AccountStatus::Open,
        // Whatever else it is called, money stays where it is.
        _ => AccountStatus::Frozen,
    };
    Ok(Opened {
        account: Account {
            id: AccountId(row.id),
            owner,
            currency: parse_currency(&row.currency)?,
            posted_minor: row.posted_minor,
            pending_minor: row.pending_minor,
            floor_minor: row.floor_minor,
            version: row.version,
            status,
        },
        created_at: time::from_micros(row.created_at),
    })
}

/// Reads a currency that was written by us.
pub(crate) fn parse_currency(code: &str) -> Result<Currency, Error> {
    Currency::parse(code)
        .ok_or_else(|| Error::internal(anyhow::anyhow!("stored currency {code:?} is unknown")))
}

/// Makes the accounts of a user unreadable.
#[cfg(test)]
pub(crate) async fn spoil(tx: &impl ConnectionTrait, user: UserId) -> Result<(), Error> {
    use sea_orm::sea_query::Expr;
    let spoilt = Entity::update_many()
        .col_expr(Column::Currency, Expr::value("???"))
        .filter(Column::UserId.eq(user.0))
        .exec(tx)
        .await?;
    assert_eq!(spoilt.rows_affected, 1);
    Ok(())
}
