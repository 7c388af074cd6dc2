//! The `grpc-timeout` header.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

pub(super) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The timeout that the headers ask for, if they ask for one in the form that gRPC defines.
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// The header for a timeout, to the millisecond.
pub(super) fn write(timeout: Duration) -> HeaderValue {
    let millis = timeout.as_millis().clamp(1, 99_999_999);
    HeaderValue::from_str(&format!("{millis}m")).unwrap_or(HeaderValue::from_static("10S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_str(text).unwrap());
        read(&headers)
    }

    #[test]
    fn what_was_written_is_read() {
        for millis in [1, 250, 10_000, 99_999_999] {
            let timeout = Duration::from_millis(millis);
            assert_eq!(read_text(write(timeout).to_str().unwrap()), Some(timeout));
        }
    }

    #[test]
    fn every_unit_is_read_and_nonsense_is_not() {
        assert_eq!(read_text("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(
            read_text("99999999H").map(|d| d.as_secs()),
            Some(99_999_999 * 3600)
        );
        assert_eq!(read_text("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read_text("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read_text("5n"), Some(Duration::from_nanos(5)));
        for bad in [
            "",
            "S",
            "5",
            "-5S",
            "+5S",
            "5s",
            "123456789S",
            "5 S",
            "1.5S",
        ] {
            assert_eq!(read_text(bad), None, "{bad:?}");
        }
    }
}
