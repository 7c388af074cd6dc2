//! The port to those who really send texts.

pub mod contract;
pub mod journal;
pub mod simulator;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::domain::MessageState;

/// One message on its way to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Our id of the message, which the provider keeps and can be asked for.
    pub reference: Uuid,
    /// Number in E.164.
    pub to: String,
    /// The text.
    pub text: Arc<str>,
}

/// What a provider says to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It has the message.
    Accepted {
        /// Its own id of the message.
        provider_message_id: String,
    },
    /// It does not have the message and will not take it.
    Rejected {
        /// Why, in its words.
        reason: String,
    },
    /// Nobody can tell whether it has the message: no answer, or one that says nothing.
    Unknown,
}

/// What a provider says about a message that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queried {
    /// Nothing new since it took it.
    Pending,
    /// It has come to this state.
    Became {
        /// `Enroute` or a final state.
        state: MessageState,
        /// The provider's error, empty when none.
        error: String,
    },
    /// It knows no such message, or could not be asked.
    NoAnswer,
}

/// What a provider says about one of our references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookedUp {
    /// It took the message.
    Known {
        /// Its own id of the message.
        provider_message_id: String,
    },
    /// It certainly never took the message, and no call that is still under way will make it.
    Unknown,
    /// It cannot tell.
    CannotTell,
}

/// What a provider can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Most messages of one [`SmsProvider::submit`].
    pub max_submit: usize,
    /// Most ids of one [`SmsProvider::query`] and references of one [`SmsProvider::lookup`].
    pub max_query: usize,
    /// Whether it finds messages by our reference. If neither this nor `dedupes_by_reference`, a message whose submission
    /// was cut off is never sent again and ends as `UNKNOWN`.
    pub finds_by_reference: bool,
    /// Whether it takes a reference once, however often it is submitted and by whomever, and answers each time with the
    /// id of the first. What was cut off is then submitted again where it cannot be looked up, and nothing that arrives
    /// late can be sent twice.
    pub dedupes_by_reference: bool,
}

/// Somebody who sends texts.
///
/// Answers stand in the order of what was asked, one for each; a missing one counts as "cannot tell". Calls are given up
/// after a time, so an implementation must bear being dropped, and should send nothing more once it is.
/// `contract::broken_promises` checks the rest.
#[async_trait]
pub trait SmsProvider: Send + Sync + 'static {
    /// The name that schedules call it by.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Hands over messages.
    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted>;

    /// Asks for the states of messages by the provider's ids.
    async fn query(&self, ids: &[String]) -> Vec<Queried>;

    /// Asks what became of messages by our references.
    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp>;
}

/// The providers of this installation, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Providers(Arc<HashMap<String, Arc<dyn SmsProvider>>>);

impl Providers {
    /// These providers, each under its own name.
    pub fn new(providers: impl IntoIterator<Item = Arc<dyn SmsProvider>>) -> Self {
        Self(Arc::new(
            providers
                .into_iter()
                .map(|p| (p.name().to_owned(), p))
                .collect(),
        ))
    }

    /// The provider of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn SmsProvider>> {
        self.0.get(name)
    }
}
