//! Time zone and language of a user.

use super::Invalid;

/// Longest name of a time zone in the IANA database, with room to grow.
const MAX_ZONE: usize = 64;
/// Longest language tag that is kept.
const MAX_LOCALE: usize = 35;

/// Reads the name of an IANA time zone and gives it in its written form, e.g. `Asia/Kolkata`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_time_zone(text: &str) -> Result<String, Invalid> {
    let invalid = Invalid("must be the name of an IANA time zone, e.g. Asia/Kolkata");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'+' | b'-');
    if text.is_empty() || text.len() > MAX_ZONE || !text.bytes().all(plain) {
        return Err(invalid);
    }
    let zone = jiff::tz::TimeZone::get(text).map_err(|_| invalid)?;
    zone.iana_name().map(str::to_owned).ok_or(invalid)
}

/// Reads a BCP 47 language tag by its syntax and gives it in its usual case, e.g. `en-IN` or `zh-Hant-TW`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_locale(text: &str) -> Result<String, Invalid> {
    let invalid = Invalid("must be a language tag, e.g. en-IN");
    if text.len() > MAX_LOCALE {
        return Err(invalid);
    }
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    if !(2..=3).contains(&language.len()) || !is_alphabetic(language) {
        return Err(invalid);
    }
    let mut tag = language.to_ascii_lowercase();
    for part in parts {
        if part.is_empty() || part.len() > 8 || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(invalid);
        }
        tag.push('-');
        match part.len() {
            2 if is_alphabetic(part) => tag.push_str(&part.to_ascii_uppercase()),
            4 if is_alphabetic(part) => {
                tag.push_str(&part[..1].to_ascii_uppercase());
                tag.push_str(&part[1..].to_ascii_lowercase());
            }
            _ => tag.push_str(&part.to_ascii_lowercase()),
        }
    }
    Ok(tag)
}

fn is_alphabetic(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_the_database_are_known() {
        assert_eq!(parse_time_zone("Asia/Kolkata").unwrap(), "Asia/Kolkata");
        assert_eq!(parse_time_zone("europe/berlin").unwrap(), "Europe/Berlin");
        assert_eq!(parse_time_zone("UTC").unwrap(), "UTC");
    }

    #[test]
    fn other_zones_are_refused() {
        let long = "A".repeat(65);
        for zone in [
            "",
            "Mars/Olympus",
            "../../etc/passwd",
            "Asia/Kolkata\0",
            "+05:30",
            &long,
        ] {
            assert!(parse_time_zone(zone).is_err(), "{zone:?}");
        }
    }

    #[test]
    fn language_tags_get_their_usual_case() {
        assert_eq!(parse_locale("en").unwrap(), "en");
        assert_eq!(parse_locale("EN-in").unwrap(), "en-IN");
        assert_eq!(parse_locale("ZH-hant-tw").unwrap(), "zh-Hant-TW");
        assert_eq!(parse_locale("de-CH-1996").unwrap(), "de-CH-1996");
        assert_eq!(parse_locale("es-419").unwrap(), "es-419");
    }

    #[test]
    fn what_is_no_language_tag_is_refused() {
        for locale in [
            "",
            "e",
            "english",
            "en_IN",
            "en-",
            "en--IN",
            "-en",
            "12",
            "en-verylongpart",
            "éé",
        ] {
            assert!(parse_locale(locale).is_err(), "{locale:?}");
        }
    }
}
