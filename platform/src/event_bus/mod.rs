//! The event bus: facts from the service where they happened to those that care.

pub(crate) mod in_process;
pub(crate) mod rabbitmq;

use async_trait::async_trait;
use prost::{Message, Name};
use sea_orm::DbErr;
use std::sync::Arc;

pub use in_process::InProcessBus;
pub use proto::events::v1::Envelope;
pub use rabbitmq::{RabbitMqBus, RabbitMqConfig};

use crate::consumer::Consumer;
use crate::shutdown::Tasks;
use crate::{Error, Kind};

/// Carries events at least once, in no promised order.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Hands events over. An `Ok` means that no crash can lose the event any more: a broker has confirmed it, or every
    /// subscriber has committed it or parked it among its dead letters. The outcomes stand in the order of the events.
    async fn publish(&self, events: Vec<Envelope>) -> Vec<Result<(), PublishError>>;

    /// Whether there is a point in publishing now. While it is `false`, events wait in their outbox.
    fn is_available(&self) -> bool {
        true
    }

    /// Brings events of the consumer's types to the consumer, from now until `tasks` is cancelled.
    ///
    /// # Errors
    /// When the subscription cannot be made.
    async fn subscribe(&self, consumer: Arc<Consumer>, tasks: &Tasks) -> Result<(), Error>;
}

/// The bus did not take an event; it may be published again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not confirmed: {0}")]
pub struct PublishError(pub String);

/// Brings events into a service. Called within the consumer's transaction; may be called again for the same event after
/// a roll-back, never after a commit.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Full names of the messages that it takes, e.g. `wallet.v1.TransferPosted`.
    fn types(&self) -> &'static [&'static str];

    /// Called once before the events of a batch are worked in: the place to lock, in the order of their ids, rows that
    /// several of them touch, so that two replicas never wait for each other in a circle.
    ///
    /// # Errors
    /// As [`Handler::handle`].
    async fn prepare(
        &self,
        _unit: &mut crate::work::UnitOfWork,
        _events: &[Envelope],
    ) -> Result<(), HandleError> {
        Ok(())
    }

    /// Works one event into `unit`.
    ///
    /// # Errors
    /// See [`HandleError`] for what each one leads to. In every case nothing of the event's work is kept.
    async fn handle(
        &self,
        unit: &mut crate::work::UnitOfWork,
        event: &Envelope,
    ) -> Result<(), HandleError>;

    /// Called once after the events of a batch, if there were new ones: the place to write at once what they have
    /// [gathered](crate::work::UnitOfWork::gathered).
    ///
    /// # Errors
    /// As [`Handler::handle`].
    async fn finish(&self, _unit: &mut crate::work::UnitOfWork) -> Result<(), HandleError> {
        Ok(())
    }
}

/// Why an event was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HandleError {
    /// Not now: tried again after a pause, a bounded number of times, then put among the dead letters.
    #[error("not now: {0}")]
    Transient(Error),
    /// A rule forbids it, and always will: logged and done.
    #[error("refused: {0}")]
    Refused(String),
    /// It cannot be understood: put among the dead letters at once.
    #[error("poison: {0}")]
    Poison(String),
}

impl From<Error> for HandleError {
    fn from(error: Error) -> Self {
        match error.kind() {
            // A subject that is not known may become known: events come in no order.
            Kind::NotFound | Kind::Internal | Kind::Unavailable | Kind::Timeout => {
                Self::Transient(error)
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl From<DbErr> for HandleError {
    fn from(error: DbErr) -> Self {
        Self::Transient(error.into())
    }
}

/// Reads the fact out of its envelope.
///
/// # Errors
/// [`HandleError::Poison`] when the envelope carries another type or does not decode.
pub fn decode<T: Message + Default + Name>(event: &Envelope) -> Result<T, HandleError> {
    if event.r#type != T::full_name() {
        return Err(HandleError::Poison(format!(
            "{} is not a {}",
            event.r#type,
            T::full_name()
        )));
    }
    T::decode(event.data.as_slice()).map_err(|error| HandleError::Poison(error.to_string()))
}
