//! The id that ties an answer to our logs.

use http::HeaderMap;
use jiff::Timestamp;

/// Longest id that is taken over, in bytes.
const LONGEST: usize = 128;

/// The client's `X-Request-Id` if it is harmless in logs, else a new one.
pub(super) fn of(headers: &HeaderMap, now: Timestamp) -> String {
    headers
        .get(super::X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_harmless(text))
        .map_or_else(|| platform::id::new(now).to_string(), str::to_owned)
}

fn is_harmless(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn harmless_ids_are_kept_and_others_replaced() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_str(text).unwrap());
            of(&headers, now)
        };
        assert_eq!(of("aZ0._-"), "aZ0._-");
        assert_eq!(of(&"a".repeat(128)), "a".repeat(128));
        for bad in ["", "a b", "a\"b", "<x>", "{}", &"a".repeat(129)] {
            let made = of(bad);
            assert_ne!(made, bad);
            assert_eq!(made.len(), 36);
        }
        assert_eq!(super::of(&HeaderMap::new(), now).len(), 36);
    }
}
