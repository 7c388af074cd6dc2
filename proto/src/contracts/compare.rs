//! Whether what there is now keeps what was published.

use std::collections::BTreeMap;

use super::{Contracts, Entry, Enum, Field, Message, Reserved};

impl Contracts {
    /// What `self`, as published, promises and `now` does not keep; a sentence each. Additions break nothing.
    ///
    /// Stricter than the wire: names count too, since JSON and our own code use them. A field or a value may go when its
    /// number and its name are reserved, so that nobody uses them for something else.
    pub fn broken_by(&self, now: &Self) -> Vec<String> {
        let mut breaks = Breaks::default();
        for (name, published) in &self.entries {
            let kind = published.kind();
            breaks.of = format!("{kind} {name}");
            match (published, now.entries.get(name)) {
                (Entry::Message(before), Some(Entry::Message(now))) => {
                    breaks.of_message(before, now);
                }
                (Entry::Enum(before), Some(Entry::Enum(now))) => breaks.of_enum(before, now),
                (Entry::Service(before), Some(Entry::Service(now))) => {
                    breaks.of_service(before, now);
                }
                (_, Some(other)) => breaks.add(format!("is a {} now", other.kind())),
                (_, None) => breaks.add("is gone"),
            }
        }
        breaks.found
    }
}

#[derive(Default)]
struct Breaks {
    /// What is looked at.
    of: String,
    found: Vec<String>,
}

impl Breaks {
    fn add(&mut self, what: impl std::fmt::Display) {
        self.found.push(format!("{}: {what}", self.of));
    }

    fn of_message(&mut self, before: &Message, now: &Message) {
        for (number, published) in &before.fields {
            match now.fields.get(number) {
                Some(field) => self.of_field(*number, published, field),
                None => self.of_gone_field(*number, &published.name, now),
            }
        }
        self.of_reserved(&before.reserved, &now.reserved);
    }

    fn of_field(&mut self, number: i32, before: &Field, now: &Field) {
        let name = &before.name;
        if *name != now.name {
            self.add(format!(
                "field {number} `{name}` is called `{}` now",
                now.name
            ));
        }
        if before.kind != now.kind {
            self.add(format!(
                "field {number} `{name}` was `{}` and is `{}` now",
                before.kind, now.kind
            ));
        }
        if before.oneof != now.oneof {
            let place = |oneof: &Option<String>| match oneof {
                Some(oneof) => format!("in oneof `{oneof}`"),
                None => "in no oneof".to_owned(),
            };
            self.add(format!(
                "field {number} `{name}` was {} and is {} now",
                place(&before.oneof),
                place(&now.oneof)
            ));
        }
    }

    fn of_gone_field(&mut self, number: i32, name: &str, now: &Message) {
        let elsewhere = now.fields.iter().find(|(_, field)| field.name == name);
        if let Some((other, _)) = elsewhere {
            self.add(format!(
                "field `{name}` had number {number} and has {other} now"
            ));
        } else {
            self.of_gone("field", number, name, &now.reserved);
        }
    }

    fn of_enum(&mut self, before: &Enum, now: &Enum) {
        for (name, number) in &before.values {
            match now.values.get(name) {
                Some(same) if same == number => {}
                Some(other) => {
                    self.add(format!("value `{name}` was {number} and is {other} now"));
                }
                None => self.of_gone("value", *number, name, &now.reserved),
            }
        }
        self.of_reserved(&before.reserved, &now.reserved);
    }

    /// Gone for good, so that neither old data nor old clients are misunderstood.
    fn of_gone(&mut self, what: &str, number: i32, name: &str, reserved: &Reserved) {
        if !reserved.covers((number, number)) {
            self.add(format!(
                "{what} {number} `{name}` is gone and {number} is not reserved"
            ));
        }
        if !reserved.names.contains(name) {
            self.add(format!(
                "{what} {number} `{name}` is gone and \"{name}\" is not reserved"
            ));
        }
    }

    fn of_reserved(&mut self, before: &Reserved, now: &Reserved) {
        for range in &before.numbers {
            if !now.covers(*range) {
                let (first, last) = range;
                self.add(format!("{first} to {last} is not reserved any more"));
            }
        }
        for name in before.names.difference(&now.names) {
            self.add(format!("\"{name}\" is not reserved any more"));
        }
    }

    fn of_service(&mut self, before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) {
        for (name, signature) in before {
            match now.get(name) {
                Some(same) if same == signature => {}
                Some(other) => {
                    self.add(format!("`{name}` was `{signature}` and is `{other}` now"));
                }
                None => self.add(format!("`{name}` is gone")),
            }
        }
    }
}

impl Reserved {
    /// Whether every number of the range is reserved, be it by several ranges that touch.
    fn covers(&self, (first, last): (i32, i32)) -> bool {
        let mut open = i64::from(first);
        for (start, end) in &self.numbers {
            if i64::from(*start) <= open {
                open = open.max(i64::from(*end) + 1);
            }
        }
        open > i64::from(last)
    }
}
