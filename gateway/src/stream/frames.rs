//! The frames of the stream.

use proto::notify::v1::StreamEvent;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::views::time_or_zero;

/// Longest device id, in characters.
const LONGEST_DEVICE_ID: usize = 100;

/// What a client says.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ClientFrame {
    /// Who it is, and what it has.
    Hello {
        token: String,
        #[serde(default)]
        after: Option<i64>,
        #[serde(default)]
        device_id: Option<String>,
    },
    /// It has every event up to this one.
    Ack { seq: i64 },
    /// A newer token of the same session.
    Token { token: String },
}

impl ClientFrame {
    /// Reads a text frame; `None` when it is none of ours.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // serde would also take a list of the values.
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let frame: Self = serde_json::from_str(text).ok()?;
        let is_sound = match &frame {
            Self::Hello {
                after, device_id, ..
            } => {
                after.is_none_or(|after| after >= 0)
                    && device_id.as_ref().is_none_or(|id| {
                        id.chars().take(LONGEST_DEVICE_ID + 1).count() <= LONGEST_DEVICE_ID
                    })
            }
            Self::Ack { seq } => *seq >= 0,
            Self::Token { .. } => true,
        };
        is_sound.then_some(frame)
    }
}

pub(super) fn ready(seq: i64) -> String {
    json!({"type": "ready", "seq": seq}).to_string()
}

pub(super) fn error(code: &str) -> String {
    json!({"type": "error", "code": code}).to_string()
}

/// An event with its data as the service wrote it.
pub(super) fn event(event: &StreamEvent) -> String {
    let data = if is_object(&event.data_json) {
        event.data_json.as_str()
    } else {
        tracing::error!(
            stream.seq = event.seq,
            "the data of an event is no JSON object"
        );
        "{}"
    };
    let head = json!({
        "type": "event",
        "seq": event.seq,
        "topic": event.topic,
        "event": event.event,
        "at": time_or_zero(event.at),
    })
    .to_string();
    // The head is an object that is not empty, so that the data can be put before its end.
    let open = head.strip_suffix('}').unwrap_or(&head);
    format!("{open},\"data\":{data}}}")
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_contract_are_read() {
        assert_eq!(
            ClientFrame::parse(r#"{"type":"hello","token":"t","after":41,"device_id":"d"}"#),
            Some(ClientFrame::Hello {
                token: "t".into(),
                after: Some(41),
                device_id: Some("d".into())
            })
        );
        assert_eq!(
            ClientFrame::parse(r#"{"type":"hello","token":"t"}"#),
            Some(ClientFrame::Hello {
                token: "t".into(),
                after: None,
                device_id: None
            })
        );
        assert_eq!(
            ClientFrame::parse(r#"{"type":"ack","seq":42}"#),
            Some(ClientFrame::Ack { seq: 42 })
        );
        assert_eq!(
            ClientFrame::parse(r#"{"type":"token","token":"t"}"#),
            Some(ClientFrame::Token { token: "t".into() })
        );
    }

    #[test]
    fn other_frames_are_not() {
        let long = format!(
            r#"{{"type":"hello","token":"t","device_id":"{}"}}"#,
            "d".repeat(101)
        );
        for bad in [
            "",
            "null",
            "[]",
            r#"["ack",{"seq":1}]"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","seq":-1}"#,
            r#"{"type":"ack","seq":1.0}"#,
            r#"{"type":"ack","seq":9223372036854775808}"#,
            r#"{"type":"ack","seq":1,"more":2}"#,
            r#"{"type":"hello"}"#,
            r#"{"type":"hello","token":"t","after":-1}"#,
            r#"{"type":"hello","token":"t","after":"1"}"#,
            r#"{"type":"what"}"#,
            r#"{"type":"ack","seq":1} {"#,
            &long,
        ] {
            assert_eq!(ClientFrame::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_event_carries_its_data_as_it_came() {
        let mut message = StreamEvent {
            seq: 42,
            topic: "balance".into(),
            event: "balance.updated".into(),
            at: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 0,
            }),
            data_json: r#"{"b":1,"a":"\"}"}"#.into(),
            traceparent: String::new(),
        };
        let frame: serde_json::Value = serde_json::from_str(&event(&message)).unwrap();
        assert_eq!(
            frame,
            json!({"type": "event", "seq": 42, "topic": "balance", "event": "balance.updated",
                "at": "1970-01-01T00:00:00Z", "data": {"a": "\"}", "b": 1}})
        );
        for broken in ["", "[]", "{", "{} {}", "null"] {
            message.data_json = broken.into();
            let frame: serde_json::Value = serde_json::from_str(&event(&message)).unwrap();
            assert_eq!(frame["data"], json!({}));
        }
    }
}
