//! Idempotency keys: the same key with the same request gets the first answer again.
//!
//! A key is claimed and its answer stored in the transaction of the work that it stands for, so a crash leaves either
//! both or neither. A second request with the same key waits in the database for the first one's transaction.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use sea_orm::sea_query::{ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter,
};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Error, FieldViolation, Kind, time};

/// Name under which clients send the key.
pub const HEADER: &str = "Idempotency-Key";
/// Longest key, in characters.
const MAX_KEY: usize = 255;
/// Keys asked for in one statement.
const CHUNK: usize = 200;
/// How often keys are claimed that are forgotten at the same moment.
const CLAIMS: usize = 3;

/// What a request was answered: the encoded reply, or the refusal.
pub type Answer = Result<Vec<u8>, Error>;

/// A key as one caller used it for one method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestKey {
    scope: String,
    key: String,
    fingerprint: Vec<u8>,
}

impl RequestKey {
    /// Takes the key of a request. `method` belongs to the scope: the same key for another method is another key.
    ///
    /// # Errors
    /// `invalid_argument` that names `Idempotency-Key` unless it has 1 to 255 visible ASCII characters.
    pub fn parse(
        user: Uuid,
        method: &'static str,
        key: &str,
        request: &impl Message,
    ) -> Result<Self, Error> {
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid_field(
                HEADER,
                format!("must have 1 to {MAX_KEY} visible ASCII characters"),
            ));
        }
        Ok(Self {
            scope: format!("{user}/{method}"),
            key: key.to_owned(),
            fingerprint: Sha256::digest(request.encode_to_vec()).to_vec(),
        })
    }

    /// Whom and which method it belongs to.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The key as the client wrote it.
    pub fn key(&self) -> &str {
        &self.key
    }

    fn name(&self) -> (&str, &str) {
        (&self.scope, &self.key)
    }
}

/// What became of the attempt to claim a key.
#[derive(Debug, Clone)]
pub enum Claim {
    /// The caller does the work and stores the answer in the same transaction.
    Fresh,
    /// The work was done before; this was the answer.
    Replayed(Answer),
    /// The key was used before with another request.
    Reused,
    /// The same key and request as the one at this place in the same call of [`claim`].
    Duplicate(usize),
}

/// The refusal for [`Claim::Reused`].
pub fn reused() -> Error {
    Error::new(
        Kind::KeyReused,
        "idempotency_key_reused",
        format!("this {HEADER} was used before with another request"),
    )
}

/// Claims keys, in the order of (scope, key) so that two transactions never wait for each other in a circle.
/// The outcomes stand in the order of `keys`.
///
/// # Errors
/// As any query.
pub async fn claim(
    tx: &DatabaseTransaction,
    keys: &[&RequestKey],
    now: Timestamp,
) -> Result<Vec<Claim>, Error> {
    let mut first: HashMap<(&str, &str), usize> = HashMap::with_capacity(keys.len());
    for (place, key) in keys.iter().enumerate() {
        first.entry(key.name()).or_insert(place);
    }
    let mut distinct: Vec<usize> = first.values().copied().collect();
    distinct.sort_unstable_by_key(|&place| keys[place].name());

    let mut stored = HashMap::new();
    for places in distinct.chunks(CHUNK) {
        claim_chunk(tx, keys, places, now, &mut stored).await?;
    }
    let outcome = |place: usize| {
        let original = first[&keys[place].name()];
        let fingerprint = &keys[place].fingerprint;
        Ok(match stored.get(&original) {
            // Every request is held against the stored one, not against the first of this call.
            Some(row) if row.fingerprint != *fingerprint => Claim::Reused,
            Some(row) => match &row.answer {
                Some(answer) => Claim::Replayed(decode(answer)?),
                None => return Err(Error::internal(anyhow::anyhow!("a key has no answer"))),
            },
            None if place == original => Claim::Fresh,
            None if keys[original].fingerprint == *fingerprint => Claim::Duplicate(original),
            None => Claim::Reused,
        })
    };
    (0..keys.len()).map(outcome).collect()
}

/// Claims the keys at `places`, and puts the rows of those that were there before into `stored`.
async fn claim_chunk(
    tx: &DatabaseTransaction,
    keys: &[&RequestKey],
    places: &[usize],
    now: Timestamp,
    stored: &mut HashMap<usize, row::Model>,
) -> Result<(), Error> {
    let mut left = places.to_vec();
    for _ in 0..CLAIMS {
        // On PostgreSQL this waits for whoever has written one of them and has not ended yet.
        if insert(tx, keys, &left, now).await? {
            return Ok(());
        }
        let mut rows = find(tx, keys, &left).await?;
        left.retain(|&place| {
            match rows.remove(&(keys[place].scope.clone(), keys[place].key.clone())) {
                // A committed row always has its answer; one without is the row that we just wrote.
                Some(row) if row.answer.is_none() => false,
                Some(row) => {
                    stored.insert(place, row);
                    false
                }
                // It was there, had expired, and was forgotten before we looked: claimed once more.
                None => true,
            }
        });
        if left.is_empty() {
            return Ok(());
        }
    }
    Err(Error::internal(anyhow::anyhow!(
        "a claimed key is not there"
    )))
}

/// Inserts rows without answers for those keys that have none. Tells whether none had.
async fn insert(
    tx: &DatabaseTransaction,
    keys: &[&RequestKey],
    places: &[usize],
    now: Timestamp,
) -> Result<bool, Error> {
    let rows = places.iter().map(|&place| row::ActiveModel {
        scope: Set(keys[place].scope.clone()),
        key: Set(keys[place].key.clone()),
        fingerprint: Set(keys[place].fingerprint.clone()),
        answer: Set(None),
        at: Set(time::to_micros(now)),
    });
    let inserted = row::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::columns([row::Column::Scope, row::Column::Key])
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(usize::try_from(inserted).ok() == Some(places.len()))
}

/// The rows of keys, by their names.
async fn find(
    tx: &DatabaseTransaction,
    keys: &[&RequestKey],
    places: &[usize],
) -> Result<HashMap<(String, String), row::Model>, Error> {
    let any = places.iter().fold(Condition::any(), |any, &place| {
        any.add(
            row::Column::Scope
                .eq(keys[place].scope.as_str())
                .and(row::Column::Key.eq(keys[place].key.as_str())),
        )
    });
    let rows = row::Entity::find().filter(any).all(tx).await?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.scope.clone(), row.key.clone()), row))
        .collect())
}

/// We answer this much before the caller stops listening, so that the answer still arrives.
const HEAD_START: Duration = Duration::from_millis(10);

/// Keys whose first request is under way in this process.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Room>);

#[derive(Default)]
struct Room {
    keys: Mutex<HashSet<(String, String)>>,
    left: Notify,
}

/// The place of one request; the next one with its key may come when it is dropped.
pub(crate) struct Place {
    room: Arc<Room>,
    name: (String, String),
}

impl UnderWay {
    /// Waits until no other request with this key is under way.
    ///
    /// # Errors
    /// `request_in_progress` when the deadline comes first.
    pub(crate) async fn enter(
        &self,
        key: &RequestKey,
        deadline: Option<Instant>,
    ) -> Result<Place, Error> {
        let name = (key.scope.clone(), key.key.clone());
        loop {
            let mut left = std::pin::pin!(self.0.left.notified());
            left.as_mut().enable();
            if self.0.keys().insert(name.clone()) {
                return Ok(Place {
                    room: self.0.clone(),
                    name,
                });
            }
            until(deadline, left).await?;
        }
    }
}

impl Room {
    fn keys(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.keys().remove(&self.name);
        self.room.left.notify_waiters();
    }
}

/// Waits for `work`, no longer than until shortly before the deadline.
///
/// # Errors
/// `request_in_progress` when the deadline comes first.
pub(crate) async fn until<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let Some(deadline) = deadline else {
        return Ok(work.await);
    };
    let patience = deadline.checked_sub(HEAD_START).unwrap_or(deadline);
    tokio::time::timeout_at(patience, work)
        .await
        .map_err(|_| in_progress())
}

/// The refusal of a duplicate that could wait no longer.
pub fn in_progress() -> Error {
    Error::conflict(
        "request_in_progress",
        format!("an earlier request with this {HEADER} is still under way"),
    )
    .with_retry_after(Duration::from_secs(1))
}

/// What a caller is told when the answer of COMMIT is lost or comes too late: the work may be done or not.
pub fn outcome_unknown() -> Error {
    Error::unavailable(
        "outcome_unknown",
        "it is not known yet whether this was done; send it again with the same key",
    )
    .with_retry_after(Duration::from_secs(1))
}

/// Whether two answers read alike once they are stored.
pub(crate) fn are_alike(one: &Answer, other: &Answer) -> bool {
    encode(one) == encode(other)
}

/// Stores answers under keys that were claimed as fresh in the same transaction.
///
/// # Errors
/// As any query.
pub async fn store(
    tx: &DatabaseTransaction,
    answers: &[(&RequestKey, &Answer)],
    now: Timestamp,
) -> Result<(), Error> {
    for chunk in answers.chunks(CHUNK) {
        let rows = chunk.iter().map(|(key, answer)| row::ActiveModel {
            scope: Set(key.scope.clone()),
            key: Set(key.key.clone()),
            fingerprint: Set(key.fingerprint.clone()),
            answer: Set(Some(encode(answer))),
            at: Set(time::to_micros(now)),
        });
        row::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::columns([row::Column::Scope, row::Column::Key])
                    .update_column(row::Column::Answer)
                    .to_owned(),
            )
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// An answer as it is kept.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(bytes = "vec", optional, tag = "1")]
    reply: Option<Vec<u8>>,
    #[prost(int32, tag = "2")]
    code: i32,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(string, tag = "4")]
    message: String,
    #[prost(message, repeated, tag = "5")]
    violations: Vec<StoredViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

fn encode(answer: &Answer) -> Vec<u8> {
    match answer {
        Ok(reply) => Stored {
            reply: Some(reply.clone()),
            ..Stored::default()
        },
        Err(error) => Stored {
            reply: None,
            code: error.kind().grpc().into(),
            reason: error.reason().to_owned(),
            message: error.message().to_owned(),
            violations: error
                .violations()
                .iter()
                .map(|one| StoredViolation {
                    field: one.field.clone(),
                    description: one.description.clone(),
                })
                .collect(),
        },
    }
    .encode_to_vec()
}

fn decode(stored: &[u8]) -> Result<Answer, Error> {
    let stored = Stored::decode(stored).map_err(Error::internal)?;
    if let Some(reply) = stored.reply {
        return Ok(Ok(reply));
    }
    let kind = Kind::from_grpc(tonic::Code::from_i32(stored.code));
    Ok(Err(if stored.violations.is_empty() {
        Error::new(kind, stored.reason, stored.message)
    } else {
        Error::invalid(
            stored
                .violations
                .into_iter()
                .map(|one| FieldViolation::new(one.field, one.description))
                .collect(),
        )
    }))
}

pub(crate) mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "idempotency_keys")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub scope: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        pub fingerprint: Vec<u8>,
        pub answer: Option<Vec<u8>>,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_duplicate_whose_deadline_comes_first_is_told_so() {
        let request = proto::identity::v1::GetProfileRequest {};
        let key = RequestKey::parse(Uuid::nil(), "test", "k", &request).unwrap();
        let under_way = UnderWay::default();
        let soon = Some(Instant::now() + Duration::from_millis(50));
        let first = under_way.enter(&key, soon).await.unwrap();
        let Err(refusal) = under_way.enter(&key, soon).await else {
            panic!("two at once")
        };
        assert_eq!(
            (refusal.kind(), refusal.reason()),
            (Kind::Conflict, "request_in_progress")
        );
        drop(first);
        assert!(under_way.enter(&key, soon).await.is_ok());
    }
}
