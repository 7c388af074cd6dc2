//! Reads what clients send, strictly, and names every problem by the path of its field.
//!
//! serde stops at the first problem. Here a body becomes a tree of [`Node`]s first; whenever the target type refuses a
//! part of the tree, the problem is noted, the part is replaced by one that fits anything, and the type is asked again.

mod deserializer;
mod node;
mod wrong;

use platform::{Error, FieldViolation};
use serde::de::DeserializeOwned;

pub(crate) use node::Node;
use wrong::{Part, What, Wrong};

/// Problems that are told at once; a body with more is told of the first ones.
const MAX_PROBLEMS: usize = 20;

/// Reads a JSON body.
///
/// # Errors
/// `invalid_argument` with every field that is missing, unknown, twice there or of a wrong shape.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let node = Node::from_json(body)?;
    if !matches!(node, Node::Map(_)) {
        return Err(Error::invalid_field("body", "must be a JSON object"));
    }
    typed(node)
}

/// Reads a query string that was split into names and values.
///
/// # Errors
/// `invalid_argument` with every parameter that is missing, unknown, twice there or of a wrong shape.
pub(crate) fn query<T: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, Error> {
    typed(Node::Map(
        pairs
            .into_iter()
            .map(|(name, value)| (name, Node::Word(value)))
            .collect(),
    ))
}

fn typed<T: DeserializeOwned>(mut node: Node) -> Result<T, Error> {
    let mut problems: Vec<FieldViolation> = Vec::new();
    loop {
        let wrong = match T::deserialize(deserializer::De(&node)) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => return Err(Error::invalid(problems)),
            Err(wrong) => wrong,
        };
        let field = wrong.path();
        if !problems.iter().any(|known| known.field == field) {
            problems.push(FieldViolation::new(field, wrong.description()));
        }
        if problems.len() == MAX_PROBLEMS || !repair(&mut node, &wrong) {
            return Err(Error::invalid(problems));
        }
    }
}

/// Makes the part of the tree that was refused fit anything. False when nothing more can be done.
fn repair(root: &mut Node, wrong: &Wrong) -> bool {
    let Some((last, parents)) = wrong.parts.split_last() else {
        return false;
    };
    let mut node = root;
    for part in parents {
        let Some(child) = node.child(part) else {
            return false;
        };
        node = child;
    }
    match (last, &wrong.what) {
        (Part::Key(key), What::Unknown) => node.remove(key, 0),
        (Part::Key(key), What::Duplicate) => node.remove(key, 1),
        (Part::Key(key), What::Missing) => node.insert(key, Node::Repaired(0)),
        (part, _) => return node.child(part).is_some_and(Node::repair),
    }
    true
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Money {
        amount_minor: i64,
        currency: String,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Delivery {
        Body,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Payment {
        id: Uuid,
        amount: Money,
        note: Option<String>,
        flag: Option<bool>,
        delivery: Option<Delivery>,
        #[serde(default)]
        list: Vec<String>,
    }

    const ID: &str = "019a9d6e-7c1b-7f6e-8a55-0f6c3d0f7f10";

    fn fields(body: &str) -> Vec<String> {
        let error = json::<Payment>(body.as_bytes()).unwrap_err();
        error
            .violations()
            .iter()
            .map(|one| one.field.clone())
            .collect()
    }

    #[test]
    fn a_good_body_is_read() {
        let body = format!(
            r#"{{"id":"{ID}","amount":{{"amount_minor":-5,"currency":"INR"}},"note":null,
                "flag":true,"delivery":"body","list":["a"]}}"#
        );
        let payment: Payment = json(body.as_bytes()).unwrap();
        assert_eq!(
            payment.amount,
            Money {
                amount_minor: -5,
                currency: "INR".into()
            }
        );
        assert_eq!(payment.note, None);
        assert_eq!(payment.list, ["a"]);
        assert_eq!(payment.delivery, Some(Delivery::Body));
    }

    #[test]
    fn every_problem_is_named_by_its_path() {
        assert_eq!(
            fields(
                r#"{"id":"nope","amount":{"amount_minor":1.5,"limit":3},"note":7,"delivery":"x",
                    "list":["a",{"b":1}],"extra":{}}"#
            ),
            [
                "id",
                "amount.amount_minor",
                "amount.limit",
                "amount.currency",
                "note",
                "delivery",
                "list[1]",
                "extra",
            ]
        );
    }

    #[test]
    fn an_empty_object_misses_every_required_field() {
        assert_eq!(fields("{}"), ["id", "amount"]);
    }

    #[test]
    fn amounts_are_whole_and_bounded() {
        for amount in [
            "1.0",
            "1e3",
            "9223372036854775808",
            "99999999999999999999999",
            "\"5\"",
            "1e400",
        ] {
            let body =
                format!(r#"{{"id":"{ID}","amount":{{"amount_minor":{amount},"currency":"INR"}}}}"#);
            assert_eq!(fields(&body), ["amount.amount_minor"], "{amount}");
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_refused() {
        let body = format!(
            r#"{{"id":"{ID}","amount":{{"amount_minor":1,"amount_minor":2,"currency":"INR"}}}}"#
        );
        assert_eq!(fields(&body), ["amount.amount_minor"]);
    }

    #[test]
    fn a_list_does_not_pass_for_an_object() {
        assert_eq!(fields(r#"["a"]"#), ["body"]);
        assert_eq!(
            fields(&format!(r#"{{"id":"{ID}","amount":[1,"INR"]}}"#)),
            ["amount"]
        );
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "{",
            "nul",
            "{} {}",
            "\u{feff}{}",
            "{'a':1}",
            deep.as_str(),
        ] {
            assert_eq!(fields(body), ["body"], "{}", &body[..body.len().min(10)]);
        }
        assert_eq!(fields(r#"{"note": "unfinished"#), ["note"]);
    }

    #[test]
    fn a_body_of_too_many_parts_is_refused() {
        let body = format!(r#"{{"list":[{}0]}}"#, "0,".repeat(200_000));
        assert_eq!(fields(&body).len(), 1);
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Filter {
        limit: Option<i32>,
        unread: Option<bool>,
        q: String,
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn query_parameters_are_read_as_what_they_should_be() {
        let filter: Filter =
            query(pairs(&[("limit", "20"), ("unread", "true"), ("q", "5")])).unwrap();
        assert_eq!(
            filter,
            Filter {
                limit: Some(20),
                unread: Some(true),
                q: "5".into()
            }
        );
    }

    #[test]
    fn bad_query_parameters_are_all_named() {
        let bad = pairs(&[
            ("limit", "ten"),
            ("unread", "1"),
            ("x", "y"),
            ("limit", "2"),
        ]);
        let error = query::<Filter>(bad).unwrap_err();
        let mut named: Vec<_> = error
            .violations()
            .iter()
            .map(|one| one.field.as_str())
            .collect();
        named.sort_unstable();
        assert_eq!(named, ["limit", "q", "unread", "x"]);
    }
}
