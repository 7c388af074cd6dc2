//! To text and back. One line a field, so that a review shows what changes:
//!
//! ```text
//! message notify.v1.SubscribeResponse
//!   1 notify.v1.Ready ready in frame
//!   3 optional string locale
//!   reserved 4 to 6
//!   reserved topic
//! ```

use std::collections::BTreeMap;
use std::fmt;

use super::{Contracts, Entry, Enum, Field, Message, Reserved};

const HEADER: &str = "\
# The contracts as they were published. Not edited by hand: `cargo run -p proto --example publish-contracts` renews it, and
# refuses what would break those who use them.
";

/// A line that cannot be read, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(usize, String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} cannot be read: {}", self.0, self.1)
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for Contracts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        for (name, entry) in &self.entries {
            writeln!(f, "\n{} {name}", entry.kind())?;
            match entry {
                Entry::Message(message) => {
                    for (number, Field { kind, name, oneof }) in &message.fields {
                        let oneof = oneof.iter().map(|oneof| format!(" in {oneof}"));
                        writeln!(f, "  {number} {kind} {name}{}", oneof.collect::<String>())?;
                    }
                    message.reserved.fmt(f)?;
                }
                Entry::Enum(one) => {
                    let mut values: Vec<_> = one.values.iter().collect();
                    values.sort_by_key(|(_, number)| **number);
                    for (name, number) in values {
                        writeln!(f, "  {number} {name}")?;
                    }
                    one.reserved.fmt(f)?;
                }
                Entry::Service(methods) => {
                    for (name, signature) in methods {
                        writeln!(f, "  {name} {signature}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (first, last) in &self.numbers {
            writeln!(f, "  reserved {first} to {last}")?;
        }
        self.names
            .iter()
            .try_for_each(|name| writeln!(f, "  reserved {name}"))
    }
}

impl Entry {
    /// The word that stands before its name.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Message(_) => "message",
            Self::Enum(_) => "enum",
            Self::Service(_) => "service",
        }
    }

    /// Reads a line of the entry.
    fn add(&mut self, line: &str) -> Option<()> {
        let (first, rest) = line.split_once(' ')?;
        match self {
            Self::Message(Message { reserved, .. }) | Self::Enum(Enum { reserved, .. })
                if first == "reserved" =>
            {
                reserved.add(rest)
            }
            Self::Message(message) => {
                let field = Field::parse(rest)?;
                let known = message.fields.insert(first.parse().ok()?, field);
                known.is_none().then_some(())
            }
            Self::Enum(one) => {
                let known = one.values.insert(rest.to_owned(), first.parse().ok()?);
                known.is_none().then_some(())
            }
            Self::Service(methods) => {
                let known = methods.insert(first.to_owned(), rest.to_owned());
                known.is_none().then_some(())
            }
        }
    }
}

impl Field {
    fn parse(text: &str) -> Option<Self> {
        let (text, oneof) = match text.rsplit_once(" in ") {
            Some((text, oneof)) => (text, Some(oneof.to_owned())),
            None => (text, None),
        };
        let (kind, name) = text.rsplit_once(' ')?;
        Some(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            oneof,
        })
    }
}

impl Reserved {
    fn add(&mut self, text: &str) -> Option<()> {
        let is_new = match text.split_once(" to ") {
            Some((first, last)) => {
                let range = (first.parse().ok()?, last.parse().ok()?);
                self.numbers.insert(range)
            }
            None => self.names.insert(text.to_owned()),
        };
        is_new.then_some(())
    }
}

impl Contracts {
    /// Reads what `Display` wrote.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut contracts = Self::default();
        let mut last = None;
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || ParseError(index + 1, line.to_owned());
            if let Some(member) = line.strip_prefix("  ") {
                let entry = last
                    .as_ref()
                    .and_then(|name| contracts.entries.get_mut(name));
                entry
                    .and_then(|entry| entry.add(member))
                    .ok_or_else(wrong)?;
                continue;
            }
            let (kind, name) = line.split_once(' ').ok_or_else(wrong)?;
            let entry = match kind {
                "message" => Entry::Message(Message::default()),
                "enum" => Entry::Enum(Enum::default()),
                "service" => Entry::Service(BTreeMap::new()),
                _ => return Err(wrong()),
            };
            if contracts.entries.insert(name.to_owned(), entry).is_some() {
                return Err(wrong());
            }
            last = Some(name.to_owned());
        }
        Ok(contracts)
    }
}
