//! A value as it was written.

use std::cell::Cell;
use std::fmt;

use platform::Error;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::wrong::Part;

/// Parts of one body, so that a small body of many tiny parts does not take much memory.
const MAX_NODES: usize = 65_536;

/// Longest path that is told, in bytes: its keys are of the client's choice.
const LONGEST_PATH: usize = 256;
/// Texts that stand for one that was found wrong: plain text, an id, a time.
pub(super) const STAND_INS: [&str; 3] = [
    "",
    "00000000-0000-0000-0000-000000000000",
    "1970-01-01T00:00:00Z",
];

/// A value as it was written, with repeated keys kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Flag(bool),
    Whole(i64),
    /// A number that is no whole one within 64 bits.
    OtherNumber,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// The value of a query parameter: text that may be meant as a number or a flag.
    Word(String),
    /// Stands for a part that was already found wrong, and fits anything; where text is wanted it is one of
    /// [`STAND_INS`].
    Repaired(usize),
}

impl Node {
    /// Reads JSON text.
    pub(super) fn from_json(text: &[u8]) -> Result<Self, Error> {
        let left = Cell::new(MAX_NODES);
        let mut json = serde_json::Deserializer::from_slice(text);
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        let node = Build(&left).deserialize(tracked).map_err(|error| {
            let path = track.path().to_string();
            // What stands at the very place may not even be a key; then the last part of the path is a `?`.
            let path = path.trim_end_matches(".?");
            let is_field = !path.starts_with(['.', '?', '[']) && path.len() <= LONGEST_PATH;
            let field = if is_field { path } else { "body" };
            Error::invalid_field(field, explain(&error, left.get() == 0))
        })?;
        json.end()
            .map_err(|error| Error::invalid_field("body", explain(&error, false)))?;
        Ok(node)
    }

    /// Makes this fit anything, or, where that did not fit, try the next stand-in. False when there is none.
    pub(super) fn repair(&mut self) -> bool {
        let next = match self {
            Self::Repaired(stand_in) => *stand_in + 1,
            _ => 0,
        };
        *self = Self::Repaired(next);
        next < STAND_INS.len()
    }

    pub(super) fn child(&mut self, part: &Part) -> Option<&mut Node> {
        match (self, part) {
            (Self::Map(entries), Part::Key(key)) => entries
                .iter_mut()
                .find(|(name, _)| name == key)
                .map(|(_, node)| node),
            (Self::List(items), Part::Index(index)) => items.get_mut(*index),
            _ => None,
        }
    }

    /// Removes the entries of a key but the first `keep` ones.
    pub(super) fn remove(&mut self, key: &str, keep: usize) {
        if let Self::Map(entries) = self {
            let mut seen = 0;
            entries.retain(|(name, _)| {
                seen += usize::from(name == key);
                name != key || seen <= keep
            });
        }
    }

    pub(super) fn insert(&mut self, key: &str, node: Node) {
        if let Self::Map(entries) = self {
            entries.push((key.to_owned(), node));
        }
    }
}

fn explain(error: &serde_json::Error, is_too_much: bool) -> String {
    if is_too_much {
        format!("more than {MAX_NODES} values in one body are not read")
    } else {
        format!("is not valid JSON: {error}")
    }
}

/// Builds a node and counts it.
#[derive(Clone, Copy)]
struct Build<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let Some(left) = self.0.get().checked_sub(1) else {
            return Err(D::Error::custom("too many values"));
        };
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::OtherNumber, Node::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::OtherNumber)
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.push((key, map.next_value_seed(self)?));
        }
        Ok(Node::Map(entries))
    }
}
