//! A fact as a message: CloudEvents attributes are headers, the body is the fact itself.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use uuid::Uuid;

use super::connection::name;
use crate::event_bus::Envelope;
use crate::{telemetry, time};

/// Counts the deliveries that failed.
const DELIVERIES: &str = "coffer-deliveries";
/// Counts how often the broker handed the message over before, as quorum queues do.
const HANDED_OVER: &str = "x-delivery-count";
/// Why the broker gave up.
const GIVEN_UP: &str = "x-first-death-reason";
/// Longest text that is taken from a header, in characters.
const MAX_TEXT: usize = 500;
const PERSISTENT: u8 = 2;

/// Properties of the message that carries `event` after so many failed deliveries.
pub(super) fn properties(event: &Envelope, deliveries: u32) -> anyhow::Result<BasicProperties> {
    let mut headers = FieldTable::default();
    let mut set = |key: &'static str, value: &str| {
        headers.insert(key.into(), AMQPValue::LongString(LongString::from(value)));
    };
    set("id", &event.id);
    set("type", &event.r#type);
    set("source", &event.source);
    set("subject", &event.subject);
    if let Ok(Some(at)) = time::from_proto("time", &event.time) {
        set("time", &at.to_string());
    }
    if !event.traceparent.is_empty() {
        set("traceparent", &event.traceparent);
    }
    if deliveries > 0 {
        let count = AMQPValue::LongLongInt(deliveries.into());
        headers.insert(DELIVERIES.into(), count);
    }
    Ok(BasicProperties::default()
        .with_message_id(name(&event.id)?)
        .with_content_type("application/protobuf".into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers))
}

/// The fact in a message, or what there is of it and why it cannot be read.
pub(super) fn read(delivery: &Delivery) -> (Envelope, Option<String>) {
    let text = |key: &str| text(header(delivery, key)?);
    let mut event = Envelope {
        id: text("id").unwrap_or_default(),
        r#type: text("type").unwrap_or_default(),
        source: text("source").unwrap_or_default(),
        subject: text("subject").unwrap_or_default(),
        time: None,
        traceparent: text("traceparent")
            .filter(|text| telemetry::is_traceparent(text))
            .unwrap_or_default(),
        data: delivery.data.clone(),
    };
    let at = text("time").map(|at| at.parse::<Timestamp>());
    if let Some(Ok(at)) = &at {
        event.time = Some(time::to_proto(*at));
    }
    let unreadable = match at {
        _ if Uuid::try_parse(&event.id).is_err() => Some("the message has no event id".to_owned()),
        _ if event.r#type.is_empty() => Some("the message has no type".to_owned()),
        Some(Err(error)) => Some(format!("the message has no readable time: {error}")),
        _ => None,
    };
    (event, unreadable)
}

/// How often the delivery of this message has failed.
pub(super) fn deliveries(delivery: &Delivery) -> u32 {
    number(header(delivery, DELIVERIES))
}

/// How often the broker has handed this message to somebody who died, or gave it back.
pub(super) fn handed_over(delivery: &Delivery) -> u32 {
    number(header(delivery, HANDED_OVER))
}

/// Why the broker put the message among the dead letters.
pub(super) fn why_dead(delivery: &Delivery) -> String {
    let why = header(delivery, GIVEN_UP).and_then(text);
    format!(
        "the broker gave up: {}",
        why.as_deref().unwrap_or("no reason told")
    )
}

fn header<'a>(delivery: &'a Delivery, key: &str) -> Option<&'a AMQPValue> {
    delivery.properties.headers().as_ref()?.inner().get(key)
}

/// What stands in a header is logged and stored, so it has no control characters and an end.
fn text(value: &AMQPValue) -> Option<String> {
    let text = match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?,
        AMQPValue::ShortString(text) => ShortString::as_str(text),
        _ => return None,
    };
    let printable = text.chars().filter(|c| !c.is_control());
    Some(printable.take(MAX_TEXT).collect())
}

fn number(value: Option<&AMQPValue>) -> u32 {
    let number = match value {
        Some(AMQPValue::ShortShortInt(n)) => i64::from(*n),
        Some(AMQPValue::ShortShortUInt(n)) => i64::from(*n),
        Some(AMQPValue::ShortInt(n)) => i64::from(*n),
        Some(AMQPValue::ShortUInt(n)) => i64::from(*n),
        Some(AMQPValue::LongInt(n)) => i64::from(*n),
        Some(AMQPValue::LongUInt(n)) => i64::from(*n),
        Some(AMQPValue::LongLongInt(n)) => *n,
        _ => 0,
    };
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Envelope {
        Envelope {
            id: Uuid::from_u128(7).to_string(),
            r#type: "x.v1.Y".to_owned(),
            source: "x-service".to_owned(),
            subject: "ä thing".to_owned(),
            time: Some(time::to_proto(Timestamp::UNIX_EPOCH)),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            data: vec![0, 255],
        }
    }

    fn delivered(event: &Envelope, deliveries: u32) -> Delivery {
        let data = event.data.clone();
        let mut delivery = Delivery::mock(1, "e".into(), "k".into(), false, data);
        delivery.properties = properties(event, deliveries).unwrap();
        delivery
    }

    #[test]
    fn a_fact_comes_out_as_it_went_in() {
        let bare = Envelope {
            time: None,
            traceparent: String::new(),
            ..event()
        };
        for event in [event(), bare] {
            assert_eq!(read(&delivered(&event, 0)), (event, None));
        }
        assert_eq!(deliveries(&delivered(&event(), 0)), 0);
        assert_eq!(deliveries(&delivered(&event(), 11)), 11);
    }

    #[test]
    fn what_is_not_ours_is_told_apart() {
        let mut nothing = Delivery::mock(1, "e".into(), "k".into(), false, vec![1]);
        let (rest, unreadable) = read(&nothing);
        assert_eq!((rest.data, unreadable.is_some()), (vec![1], true));
        nothing.properties = BasicProperties::default().with_headers(FieldTable::default());
        assert!(read(&nothing).1.is_some());
        for spoil in [
            |event: &mut Envelope| event.id = "7".to_owned(),
            |event: &mut Envelope| event.r#type.clear(),
        ] {
            let mut event = event();
            spoil(&mut event);
            assert!(read(&delivered(&event, 0)).1.is_some());
        }
        let mut late = delivered(&event(), 0);
        let mut headers = late.properties.headers().clone().unwrap();
        headers.insert("time".into(), AMQPValue::LongString("soon".into()));
        headers.insert("x-delivery-count".into(), AMQPValue::LongInt(-3));
        headers.insert("coffer-deliveries".into(), AMQPValue::Boolean(true));
        late.properties = late.properties.with_headers(headers);
        assert!(read(&late).1.is_some());
        assert_eq!((handed_over(&late), deliveries(&late)), (0, 0));
    }
}
