//! Entries of the inbox: what they say.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::money::Money;

/// What a notification is about, roughly; decides its icon and, later, its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    TransferSent,
    TransferReceived,
    TransferFailed,
    Deposit,
    Security,
    General,
}

impl Kind {
    /// Name on the wire and in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TransferSent => "transfer_sent",
            Self::TransferReceived => "transfer_received",
            Self::TransferFailed => "transfer_failed",
            Self::Deposit => "deposit",
            Self::Security => "security",
            Self::General => "general",
        }
    }
}

/// How much a notification may disturb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Low,
    Normal,
    High,
}

impl Priority {
    /// Name on the wire and in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// What a notification leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entity {
    Transaction(Uuid),
    Session(Uuid),
    SmsSchedule(Uuid),
    Nothing,
}

impl Entity {
    /// Type and id, both empty for nothing.
    pub(crate) fn parts(self) -> (&'static str, String) {
        match self {
            Self::Transaction(id) => ("transaction", id.to_string()),
            Self::Session(id) => ("session", id.to_string()),
            Self::SmsSchedule(id) => ("sms_schedule", id.to_string()),
            Self::Nothing => ("", String::new()),
        }
    }
}

/// A notification that is not yet in anybody's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) priority: Priority,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) entity: Entity,
}

/// An entry of the inbox; its JSON form is the one of the public API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Notification {
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    pub(crate) priority: String,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) entity_type: String,
    pub(crate) entity_id: String,
    pub(crate) read: bool,
    pub(crate) created_at: Timestamp,
}

impl Draft {
    /// The draft as a new, unread entry.
    pub(crate) fn into_entry(self, id: Uuid, now: Timestamp) -> Notification {
        let (entity_type, entity_id) = self.entity.parts();
        Notification {
            id,
            kind: self.kind.as_str().to_owned(),
            priority: self.priority.as_str().to_owned(),
            title: self.title,
            text: self.text,
            entity_type: entity_type.to_owned(),
            entity_id,
            read: false,
            created_at: now,
        }
    }

    pub(crate) fn deposit(transaction_id: Uuid, amount: &Money) -> Self {
        Self {
            kind: Kind::Deposit,
            priority: Priority::Normal,
            title: "Money arrived".to_owned(),
            text: format!("{amount} were added to your wallet."),
            entity: Entity::Transaction(transaction_id),
        }
    }

    pub(crate) fn transfer_sent(transaction_id: Uuid, amount: &Money, to: &str) -> Self {
        Self {
            kind: Kind::TransferSent,
            priority: Priority::Normal,
            title: format!("You paid {to}"),
            text: format!("{amount} went to {to}."),
            entity: Entity::Transaction(transaction_id),
        }
    }

    pub(crate) fn transfer_received(transaction_id: Uuid, amount: &Money, from: &str) -> Self {
        Self {
            kind: Kind::TransferReceived,
            priority: Priority::Normal,
            title: format!("{from} paid you"),
            text: format!("{amount} came from {from}."),
            entity: Entity::Transaction(transaction_id),
        }
    }

    pub(crate) fn transfer_failed(transaction_id: Uuid, amount: &Money, reason: &str) -> Self {
        let why = match reason {
            "insufficient_funds" => "there is not enough money in your account".to_owned(),
            "account_frozen" => "the account is frozen".to_owned(),
            "email_not_verified" => "your e-mail address is not confirmed yet".to_owned(),
            "payee_not_found" => "nobody by that name was found".to_owned(),
            other => format!("it was refused ({})", other.replace('_', " ")),
        };
        Self {
            kind: Kind::TransferFailed,
            priority: Priority::High,
            title: "Payment not made".to_owned(),
            text: format!("Your payment of {amount} was not made: {why}. No money has moved."),
            entity: Entity::Transaction(transaction_id),
        }
    }

    pub(crate) fn refresh_token_reused(session_id: Uuid) -> Self {
        Self {
            kind: Kind::Security,
            priority: Priority::High,
            title: "A session was ended to protect you".to_owned(),
            text: "A sign-in key of one of your sessions was used twice, as happens when it has been \
                   copied. That session has been ended. If you do not know why, change your password."
                .to_owned(),
            entity: Entity::Session(session_id),
        }
    }

    pub(crate) fn sms_schedule_finished(
        schedule_id: Uuid,
        status: &str,
        total: i64,
        delivered: i64,
    ) -> Self {
        let title = match status {
            "cancelled" => "SMS schedule cancelled",
            _ => "SMS schedule finished",
        };
        Self {
            kind: Kind::General,
            priority: Priority::Normal,
            title: title.to_owned(),
            text: format!("{delivered} of {total} messages were delivered."),
            entity: Entity::SmsSchedule(schedule_id),
        }
    }

    pub(crate) fn test() -> Self {
        Self {
            kind: Kind::General,
            priority: Priority::Low,
            title: "Test notification".to_owned(),
            text: "You asked for a test notification. This is it.".to_owned(),
            entity: Entity::Nothing,
        }
    }
}
