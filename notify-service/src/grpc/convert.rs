//! Domain and storage to proto.

use platform::time;
use proto::notify::v1 as wire;

use crate::domain::notification::Notification;
use crate::storage::entities::stream_events;

/// An entry of the inbox.
pub(super) fn notification(entry: Notification) -> wire::Notification {
    wire::Notification {
        id: entry.id.to_string(),
        kind: entry.kind,
        priority: entry.priority,
        title: entry.title,
        text: entry.text,
        entity_type: entry.entity_type,
        entity_id: entry.entity_id,
        read: entry.read,
        created_at: Some(time::to_proto(entry.created_at)),
    }
}

/// The first frame of a stream.
pub(super) fn ready(seq: i64) -> wire::SubscribeResponse {
    let frame = wire::subscribe_response::Frame::Ready(wire::Ready { seq });
    wire::SubscribeResponse { frame: Some(frame) }
}

/// An event of a stream.
pub(super) fn event(row: stream_events::Model) -> wire::SubscribeResponse {
    let frame = wire::subscribe_response::Frame::Event(wire::StreamEvent {
        seq: row.seq,
        topic: row.topic,
        event: row.event,
        at: Some(time::to_proto(time::from_micros(row.at))),
        data_json: row.data_json,
        traceparent: row.traceparent,
    });
    wire::SubscribeResponse { frame: Some(frame) }
}
