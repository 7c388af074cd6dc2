//! Names of people, as they write them.

use super::Invalid;

/// Longest name, in characters.
pub const MAX_CHARS: usize = 100;

/// Reads a given or family name: 1 to 100 characters after trimming.
///
/// Control characters are refused, and with them the marks that turn the direction of text around or take no room:
/// a payee's name must not be able to pass for another. The joiners that Indic scripts need are let through.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<String, Invalid> {
    let name = text.trim();
    if name.is_empty() || name.chars().nth(MAX_CHARS).is_some() {
        return Err(Invalid("must have 1 to 100 characters"));
    }
    if name.chars().any(is_deceptive) {
        return Err(Invalid("must not have control characters"));
    }
    Ok(name.to_owned())
}

/// Reads what a user calls a device: up to 100 characters, may be empty.
///
/// # Errors
/// What is wrong with it.
pub fn parse_device(text: &str) -> Result<String, Invalid> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    parse(text)
        .map_err(|_| Invalid("must have at most 100 characters, none of them control characters"))
}

fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// Both names in the form in which they are searched.
pub fn searchable(first_name: &str, last_name: &str) -> String {
    fold(&format!("{first_name} {last_name}"))
}

/// Text without regard to case, with single spaces.
pub fn fold(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_world_are_taken_as_written() {
        for name in [
            "Ana",
            "  Åsa ",
            "Nguyễn",
            "O’Brien",
            "श्रीक्\u{200D}ष",
            "李",
            &"x".repeat(100),
        ] {
            assert_eq!(parse(name).unwrap(), name.trim());
        }
    }

    #[test]
    fn empty_long_and_deceptive_names_are_refused() {
        let long = "é".repeat(101);
        for name in [
            "",
            "   ",
            "a\u{0}b",
            "a\nb",
            "\u{202E}ana",
            "a\u{200B}b",
            long.as_str(),
        ] {
            assert!(parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_device_needs_no_name() {
        assert_eq!(parse_device("").unwrap(), "");
        assert_eq!(parse_device(" Phone ").unwrap(), "Phone");
        assert!(parse_device(&"x".repeat(101)).is_err());
    }

    #[test]
    fn search_knows_no_case() {
        assert_eq!(searchable("Åsa  Maria", "ÖBERG"), "åsa maria öberg");
    }
}
