//! What is wrong with a request, and where: an error of serde that is data.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

/// A step on the way to a field.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Key(String),
    Index(usize),
}

/// What is wrong with a field.
#[derive(Debug)]
pub(super) enum What {
    Missing,
    Unknown,
    Duplicate,
    Invalid(String),
}

/// The first problem that a type found.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) parts: Vec<Part>,
    pub(super) what: What,
}

impl Wrong {
    pub(super) fn here(what: What) -> Self {
        Self {
            parts: Vec::new(),
            what,
        }
    }

    pub(super) fn field(name: &str, what: What) -> Self {
        Self {
            parts: vec![Part::Key(name.to_owned())],
            what,
        }
    }

    pub(super) fn expected(expected: &dyn Expected) -> Self {
        Self::here(What::Invalid(format!(
            "must be {}",
            in_words(&expected.to_string())
        )))
    }

    pub(super) fn under(mut self, part: Part) -> Self {
        self.parts.insert(0, part);
        self
    }

    /// The path as clients write it: `amount.currency`, `recipients[3]`.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Key(key) if path.is_empty() => path.push_str(&shortened(key)),
                Part::Key(key) => path.push_str(&format!(".{}", shortened(key))),
                Part::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        if path.is_empty() {
            "body".to_owned()
        } else {
            path
        }
    }

    pub(super) fn description(&self) -> String {
        match &self.what {
            What::Missing => "is missing".to_owned(),
            What::Unknown => "is not a field of this request".to_owned(),
            What::Duplicate => "must stand once only".to_owned(),
            What::Invalid(description) => description.clone(),
        }
    }
}

/// A key of the client's choice, cut so that an answer stays small.
fn shortened(key: &str) -> String {
    key.chars().take(64).collect()
}

/// serde's names of types in words for a person.
fn in_words(expected: &str) -> &str {
    match expected {
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => {
            "a whole number in range"
        }
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other if other.starts_with("struct ") || other == "a map" => "an object",
        other => other,
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path(), self.description())
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::here(What::Invalid(format!("is invalid: {message}")))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::here(What::Invalid(format!(
            "must be one of {}",
            expected.join(", ")
        )))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::field(field, What::Unknown)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::field(field, What::Missing)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::field(field, What::Duplicate)
    }
}
