//! Dead letters: events that a consumer could not take, kept as rows for somebody to look at.

use prost::Message;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{ATTEMPTS, Consumer, Failure, INBOX_RETENTION, MAX_BATCH, dead_letter, event_id};
use crate::event_bus::{Envelope, HandleError};
use crate::{Error, time};

/// Characters of a type or a reason that are kept.
const MAX_TEXT: usize = 1000;

impl Consumer {
    /// Puts an event among the dead letters.
    ///
    /// # Errors
    /// As any query.
    pub async fn park(&self, event: &Envelope, reason: &str) -> Result<(), Error> {
        let envelope = event.encode_to_vec();
        let unit = self.work.begin().await?;
        dead_letter::Entity::insert(dead_letter::ActiveModel {
            consumer: Set(self.name.to_owned()),
            event_id: Set(event_id(event).unwrap_or_else(|_| fingerprint(&envelope))),
            r#type: Set(storable(&event.r#type)),
            envelope: Set(envelope),
            reason: Set(storable(reason)),
            at: Set(time::to_micros(unit.now())),
        })
        .on_conflict(
            OnConflict::columns([dead_letter::Column::Consumer, dead_letter::Column::EventId])
                .update_columns([dead_letter::Column::Reason, dead_letter::Column::At])
                .to_owned(),
        )
        .exec_without_returning(unit.tx())
        .await?;
        unit.commit().await?;
        metrics::counter!("messaging_dead_lettered_total", "queue" => self.name).increment(1);
        tracing::error!(
            consumer = self.name, event.id = %event.id, event.r#type = %event.r#type, reason,
            "event put among the dead letters"
        );
        Ok(())
    }

    /// Delivers the dead letters once more, oldest first, and removes those that are done. Those older than
    /// [`INBOX_RETENTION`] stay: the inbox could not tell any more whether they were done. Returns how many were done and
    /// removed here; the log tells how many stayed. May run beside deliveries, and several times at once.
    ///
    /// # Errors
    /// As any query, when the database does not answer.
    pub async fn redrive(&self) -> Result<u64, Error> {
        let (mut done, mut stayed, mut after) = (0, 0_u64, Uuid::nil());
        let oldest = time::to_micros(self.work.now() - INBOX_RETENTION);
        loop {
            let letters = dead_letter::Entity::find()
                .filter(dead_letter::Column::Consumer.eq(self.name))
                .filter(dead_letter::Column::EventId.gt(after))
                .order_by_asc(dead_letter::Column::EventId)
                .limit(MAX_BATCH as u64)
                .all(self.work.db().reader())
                .await?;
            let Some(last) = letters.last() else {
                if stayed > 0 {
                    tracing::warn!(consumer = self.name, done, stayed, "dead letters stayed");
                }
                return Ok(done);
            };
            after = last.event_id;
            for letter in &letters {
                match self.redrive_one(letter, oldest).await? {
                    Some(removed) => done += removed,
                    None => stayed += 1,
                }
            }
        }
    }

    /// How many rows were removed: none when another redrive was quicker. `None` when the letter stays.
    async fn redrive_one(
        &self,
        letter: &dead_letter::Model,
        oldest: i64,
    ) -> Result<Option<u64>, Error> {
        let Ok(event) = Envelope::decode(letter.envelope.as_slice()) else {
            return Ok(None);
        };
        if letter.at < oldest {
            return Ok(None);
        }
        let mut attempts = 0;
        let failure = loop {
            attempts += 1;
            let Err(failure) = self.attempt(std::slice::from_ref(&event)).await else {
                let unit = self.work.begin().await?;
                let removed =
                    dead_letter::Entity::delete_by_id((self.name.to_owned(), letter.event_id))
                        .exec(unit.tx())
                        .await?;
                unit.commit().await?;
                return Ok(Some(removed.rows_affected));
            };
            // Another redrive or a delivery may have been quicker, or stood in the way.
            if failure.passing().is_none() || attempts >= ATTEMPTS || !self.is_ready().await {
                break failure;
            }
        };
        let error = match failure {
            Failure::Unit(error) if !self.is_ready().await => return Err(error),
            Failure::Unit(error) => HandleError::Transient(error),
            Failure::Event(error) => error,
        };
        tracing::warn!(event.id = %event.id, event.r#type = %event.r#type, %error, "still a dead letter");
        Ok(None)
    }
}

/// Number of dead letters in a database.
///
/// # Errors
/// As any query.
pub async fn dead_letters(db: &impl sea_orm::ConnectionTrait) -> Result<u64, Error> {
    Ok(sea_orm::PaginatorTrait::count(dead_letter::Entity::find(), db).await?)
}

/// The id of a letter without a readable one: the same letter gets the same id, however often it comes.
fn fingerprint(envelope: &[u8]) -> Uuid {
    let digest: [u8; 32] = Sha256::digest(envelope).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Text from outside in a form that every database takes.
fn storable(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(MAX_TEXT).collect()
}
