//! The inbox.

use jiff::Timestamp;
use proto::notify::v1 as pb;
use serde::Serialize;
use utoipa::ToSchema;

use super::{filled, time_or_zero};

/// One entry of the inbox.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Notification {
    /// UUIDv7.
    #[schema(example = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10")]
    id: String,
    /// `transfer_sent`, `transfer_received`, `transfer_failed`, `deposit`, `security` or `general`.
    #[schema(example = "transfer_received")]
    kind: String,
    /// `low`, `normal` or `high`.
    #[schema(example = "normal")]
    priority: String,
    #[schema(example = "You received ₹12.50")]
    title: String,
    text: String,
    /// What it is about: `transaction` or `session`; null when nothing.
    entity_type: Option<String>,
    /// Id of what it is about; null when nothing.
    entity_id: Option<String>,
    read: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<pb::Notification> for Notification {
    fn from(notification: pb::Notification) -> Self {
        Self {
            id: notification.id,
            kind: notification.kind,
            priority: notification.priority,
            title: notification.title,
            text: notification.text,
            entity_type: filled(notification.entity_type),
            entity_id: filled(notification.entity_id),
            read: notification.read,
            created_at: time_or_zero(notification.created_at),
        }
    }
}

/// How many are unread.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Unread {
    #[schema(example = 3)]
    pub(crate) unread: i64,
}

/// How many were marked as read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Marked {
    #[schema(example = 3)]
    pub(crate) marked: i64,
}
