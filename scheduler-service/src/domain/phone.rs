//! Telephone numbers, normalised to E.164.

use std::fmt;

use rlibphonenumber::{PHONE_NUMBER_UTIL, ParseError, PhoneNumberFormat, Region};

/// Most characters of a number as it comes in. Longer ones are not looked at.
pub const MAX_INPUT_CHARS: usize = 64;

/// Most digits of a number in E.164.
const MAX_DIGITS: usize = 15;

/// A valid number in E.164, e.g. `+27821234567`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phone(String);

impl Phone {
    /// Reads back what [`Phone::as_str`] gave: `+` and up to 15 digits. Whether there is such a number is not asked again.
    pub fn from_e164(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let fits = (1..=MAX_DIGITS).contains(&digits.len());
        (fits && digits.bytes().all(|b| b.is_ascii_digit())).then(|| Self(text.to_owned()))
    }

    /// The number in E.164.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number in E.164, as text of its own.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why something is not taken as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// Nothing stood there.
    Empty,
    /// More characters or digits than any number has.
    TooLong,
    /// It does not read as a number.
    NotANumber,
    /// It reads as a number, but no such number can exist.
    InvalidNumber,
}

impl Reject {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::NotANumber => "not_a_number",
            Self::InvalidNumber => "invalid_number",
        }
    }
}

/// Reads numbers, national ones as those of one region.
#[derive(Debug, Clone, Copy)]
pub struct Numbering {
    region: Region,
}

impl Numbering {
    /// For the region of an ISO 3166-1 code of two letters, e.g. `IN`. `None` when there is no such region.
    pub fn of_region(code: &str) -> Option<Self> {
        let region = code.parse().ok()?;
        // The library also reads codes that it knows no numbers for.
        PHONE_NUMBER_UTIL
            .get_country_code_for_region(region)
            .map(|_| Self { region })
    }

    /// Normalises what somebody wrote.
    ///
    /// # Errors
    /// Why it is not a number that a text can go to.
    pub fn normalise(&self, written: &str) -> Result<Phone, Reject> {
        let written = written.trim();
        if written.is_empty() {
            return Err(Reject::Empty);
        }
        if written.chars().count() > MAX_INPUT_CHARS {
            return Err(Reject::TooLong);
        }
        // The library reads letters as the digits of their keys and cuts off what follows a number; a list of
        // recipients with names in it must not become calls to strangers.
        if written
            .chars()
            .any(|c| c.is_alphabetic() || matches!(c, ';' | ',' | '#' | '*' | '\0'))
        {
            return Err(Reject::NotANumber);
        }
        let number = PHONE_NUMBER_UTIL
            .parse(written, Some(self.region))
            .map_err(reject)?;
        if !number.extension().is_empty() || !number.is_valid() {
            return Err(Reject::InvalidNumber);
        }
        Ok(Phone(
            number.format_as(PhoneNumberFormat::E164).into_owned(),
        ))
    }
}

fn reject(error: ParseError) -> Reject {
    match error {
        ParseError::TooLongNsn => Reject::TooLong,
        ParseError::NotANumber(_) => Reject::NotANumber,
        ParseError::InvalidCountryCode | ParseError::TooShortAfterIdd | ParseError::TooShortNsn => {
            Reject::InvalidNumber
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn india() -> Numbering {
        Numbering::of_region("IN").unwrap()
    }

    #[test]
    fn numbers_become_e164() {
        for (written, expected) in [
            ("+27821234567", "+27821234567"),
            (" +27 82 123-4567 ", "+27821234567"),
            ("+33142764978", "+33142764978"),
            ("098765 43210", "+919876543210"),
            ("9876543210", "+919876543210"),
            ("00 27 82 123 4567", "+27821234567"),
        ] {
            assert_eq!(
                india().normalise(written).unwrap().as_str(),
                expected,
                "{written}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_refused_with_a_reason() {
        for (written, reason) in [
            ("", Reject::Empty),
            (" \u{a0}\t", Reject::Empty),
            ("hello", Reject::NotANumber),
            ("1-800-FLOWERS", Reject::NotANumber),
            ("+27821234567;Thandi", Reject::NotANumber),
            ("+2782123\u{0}4567", Reject::NotANumber),
            ("+27821234567\u{0}", Reject::NotANumber),
            ("+", Reject::NotANumber),
            ("12", Reject::InvalidNumber),
            ("+91 98765 4321", Reject::InvalidNumber),
            ("+999123456789", Reject::InvalidNumber),
            ("+278212345678212345678212", Reject::TooLong),
        ] {
            assert_eq!(india().normalise(written), Err(reason), "{written}");
        }
        assert_eq!(india().normalise(&"1".repeat(65)), Err(Reject::TooLong));
    }

    #[test]
    fn only_e164_is_read_back() {
        assert_eq!(
            Phone::from_e164("+27821234567").unwrap().as_str(),
            "+27821234567"
        );
        for bad in [
            "",
            "+",
            "27821234567",
            "+2782\0",
            "+27 82",
            "+\u{0661}",
            "+1234567890123456",
        ] {
            assert_eq!(Phone::from_e164(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn regions_are_known_by_their_codes() {
        assert!(Numbering::of_region("ZA").is_some());
        assert!(Numbering::of_region("XQ").is_none());
        assert!(Numbering::of_region("").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,70}|[+0-9 ()\u{ff0b}.-]{0,30}") {
            if let Ok(phone) = india().normalise(&text) {
                prop_assert!(phone.as_str().starts_with('+'));
                prop_assert!(phone.as_str()[1..].bytes().all(|b| b.is_ascii_digit()));
                prop_assert_eq!(india().normalise(phone.as_str()).unwrap(), phone.clone());
            }
        }
    }
}
