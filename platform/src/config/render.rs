//! A configuration as text for people.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::secret::{self, MASK};

const HEADER: &str = "\
# Every setting, with its default. A key `a.b` can also be set by the variable COFFER_A__B, and by COFFER_A__B_FILE to
# what a file holds. COFFER_PROFILE is development (the default), staging or production.
";

/// A configuration file that says what every setting means and holds the values of `config`. Reading it gives
/// `config` again.
pub fn example<T: Serialize + JsonSchema>(config: &T) -> String {
    let schema = schemars::schema_for!(T).to_value();
    let values = secret::revealed(|| serde_json::to_value(config)).unwrap_or_default();
    let mut out = HEADER.to_owned();
    if let Value::Object(values) = &values {
        let root = Reader { root: &schema };
        root.table(&mut out, &mut Vec::new(), &schema, values);
    }
    out
}

/// The effective configuration as TOML, with secrets and the passwords of URLs masked.
pub fn masked<T: Serialize>(config: &T) -> String {
    let mut value = serde_json::to_value(config).unwrap_or_default();
    mask(&mut value);
    let mut out = String::new();
    if let Value::Object(values) = &value {
        let nothing = Value::Null;
        Reader { root: &nothing }.table(&mut out, &mut Vec::new(), &nothing, values);
    }
    out
}

struct Reader<'a> {
    root: &'a Value,
}

impl Reader<'_> {
    /// First the plain keys of a table, then the tables in it, as TOML wants it.
    fn table(
        &self,
        out: &mut String,
        path: &mut Vec<String>,
        schema: &Value,
        values: &Map<String, Value>,
    ) {
        let (tables, plain): (Vec<_>, Vec<_>) = values
            .iter()
            .partition(|(_, value)| matches!(value, Value::Object(_)));
        for (key, value) in plain {
            self.comment(out, schema, key);
            match to_toml(value) {
                Some(toml) => {
                    let _ = writeln!(out, "{} = {toml}", quoted(key));
                }
                None => {
                    let _ = writeln!(out, "# {} =", quoted(key));
                }
            }
        }
        for (key, value) in tables {
            let Value::Object(inner) = value else {
                continue;
            };
            let property = self.property(schema, key);
            path.push(quoted(key));
            out.push('\n');
            self.comment(out, schema, key);
            let _ = writeln!(out, "[{}]", path.join("."));
            self.table(out, path, property.unwrap_or(&Value::Null), inner);
            path.pop();
        }
    }

    fn comment(&self, out: &mut String, schema: &Value, key: &str) {
        let own = schema
            .pointer("/properties")
            .and_then(|properties| properties.get(key));
        let target = self.property(schema, key);
        let text = [own, target]
            .into_iter()
            .flatten()
            .find_map(|schema| schema.get("description").and_then(Value::as_str));
        for line in text.into_iter().flat_map(str::lines) {
            let _ = writeln!(out, "{}", format!("# {line}").trim_end());
        }
        let choices = target.map(choices).unwrap_or_default();
        if !choices.is_empty() {
            let _ = writeln!(out, "# One of {}.", choices.join(", "));
        }
    }

    /// The schema of a key, with references followed and `null` set aside.
    fn property<'a>(&'a self, schema: &'a Value, key: &str) -> Option<&'a Value> {
        let mut schema = schema.get("properties")?.get(key)?;
        for _ in 0..8 {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                schema = self.root.pointer(reference.strip_prefix('#')?)?;
            } else if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
                schema = options
                    .iter()
                    .find(|option| option.get("type").and_then(Value::as_str) != Some("null"))?;
            } else {
                break;
            }
        }
        Some(schema)
    }
}

/// The values that a setting may have, where there are few.
fn choices(schema: &Value) -> Vec<String> {
    let listed = schema
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let variants = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    listed
        .chain(variants.filter_map(|variant| variant.get("const")))
        .map(Value::to_string)
        .collect()
}

fn to_toml(value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    toml::Value::try_from(value)
        .ok()
        .map(|value| value.to_string())
}

fn quoted(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare {
        key.to_owned()
    } else {
        toml::Value::String(key.to_owned()).to_string()
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_url(text),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(fields) => fields.values_mut().for_each(mask),
        _ => {}
    }
}

/// Masks `scheme://user:PASSWORD@host` and `?password=PASSWORD`.
fn mask_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password may hold unescaped slashes; the last `@` before the query decides then.
    let query = rest.find('?').unwrap_or(rest.len());
    let at = rest[..end].rfind('@').or_else(|| rest[..query].rfind('@'));
    let (login, rest) = match at {
        Some(at) => (Some(&rest[..at]), &rest[at..]),
        None => (None, rest),
    };
    let login = match login.map(|login| login.split_once(':')) {
        Some(Some((user, _))) => format!("{user}:{MASK}"),
        Some(None) => login.unwrap_or_default().to_owned(),
        None => String::new(),
    };
    let rest = match rest.split_once('?') {
        Some((before, query)) => format!("{before}?{}", mask_query(query)),
        None => rest.to_owned(),
    };
    format!("{scheme}://{login}{rest}")
}

fn mask_query(query: &str) -> String {
    let masked = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if is_telling(key) => format!("{key}={MASK}"),
        _ => pair.to_owned(),
    });
    masked.collect::<Vec<_>>().join("&")
}

fn is_telling(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "token", "key"]
        .iter()
        .any(|word| key.contains(word))
}
