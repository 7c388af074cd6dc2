//! The contracts as data: what was published, what there is now, and whether the second still keeps the first.
//!
//! `published.txt` at the root of this crate holds what was published. The test `contracts` compares it with the `.proto`
//! files; `cargo run -p proto --example publish-contracts` renews it.

#![warn(missing_docs, clippy::all)]

mod compare;
mod describe;
mod text;

use std::collections::{BTreeMap, BTreeSet};

pub use text::ParseError;

/// Every message, enum and service by its full name, without those of `google.protobuf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contracts {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Message(Message),
    Enum(Enum),
    /// Signatures by name of the method.
    Service(BTreeMap<String, String>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Message {
    fields: BTreeMap<i32, Field>,
    reserved: Reserved,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    /// Label and type, e.g. `repeated string`.
    kind: String,
    /// With that in JSON in brackets where it is a special one.
    name: String,
    /// The `oneof` that it belongs to.
    oneof: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Enum {
    /// Numbers by name: a number may have several.
    values: BTreeMap<String, i32>,
    reserved: Reserved,
}

/// Numbers and names that must not be used again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Reserved {
    /// First and last.
    numbers: BTreeSet<(i32, i32)>,
    names: BTreeSet<String>,
}
