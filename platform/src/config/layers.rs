//! The layers of a configuration, and the search for everything that is wrong with them.

use std::collections::BTreeMap;

use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Provider};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FILE_VARIABLE, PROFILE_VARIABLE, Problem, Profile, secret};

pub(super) const PREFIX: &str = "COFFER_";
/// Variables of the tests, which are no settings.
const TEST_PREFIX: &str = "COFFER_TEST_";
const SEPARATOR: &str = "__";
const FILE_SUFFIX: &str = "_FILE";
/// Nobody reads more problems than this.
const MOST_PROBLEMS: usize = 100;

type Path = Vec<String>;

/// What was laid over the defaults, the weakest first.
#[derive(Default)]
pub(super) struct Layers {
    layers: Vec<Layer>,
}

struct Layer {
    /// Where it comes from, for a person; also the key of problems that have no other.
    source: String,
    data: Dict,
    /// For a variable: the key that it sets; empty for a file.
    path: Path,
    /// For a variable: what else its text may mean, tried in turn before it is called wrong.
    alternatives: Vec<Value>,
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> figment::Result<Map<figment::Profile, Dict>> {
        Ok(Map::from([(figment::Profile::Default, self.data.clone())]))
    }
}

impl Layers {
    /// What the profile changes, as far as this configuration has it.
    pub(super) fn push_profile(&mut self, profile: Profile, known: &serde_json::Value) {
        if profile == Profile::Development || known.pointer("/telemetry/format").is_none() {
            return;
        }
        let path = ["telemetry".to_owned(), "format".to_owned()];
        self.push(
            PROFILE_VARIABLE.to_owned(),
            &path,
            vec![Value::from("json")],
        );
    }

    pub(super) fn push_file(&mut self, name: &str, text: &str, problems: &mut Vec<Problem>) {
        match Toml::string(text).data() {
            Ok(mut data) => {
                let data = data.remove(&figment::Profile::Default).unwrap_or_default();
                self.layers.push(Layer {
                    source: name.to_owned(),
                    data,
                    path: Vec::new(),
                    alternatives: Vec::new(),
                });
            }
            Err(error) => problems.push(Problem::new(name, format!("is not TOML: {error}"))),
        }
    }

    pub(super) fn push_variables(
        &mut self,
        variables: Vec<(String, String)>,
        known: &serde_json::Value,
        problems: &mut Vec<Problem>,
    ) {
        let mut by_path: BTreeMap<Path, String> = BTreeMap::new();
        for (name, text) in variables {
            let own = [PROFILE_VARIABLE, FILE_VARIABLE].contains(&name.as_str())
                || name.starts_with(TEST_PREFIX);
            let Some(rest) = name.strip_prefix(PREFIX).filter(|_| !own) else {
                continue;
            };
            let mut path = path_of(rest);
            let mut candidates = candidates(&text);
            if let Some(rest) = rest.strip_suffix(FILE_SUFFIX)
                && !is_known(known, &path)
            {
                path = path_of(rest);
                match std::fs::read_to_string(&text) {
                    Ok(content) => candidates = self::candidates(trim_line_end(&content)),
                    Err(error) => {
                        problems.push(Problem::new(
                            &name,
                            format!("{text} cannot be read: {error}"),
                        ));
                        continue;
                    }
                }
            }
            if path.iter().any(String::is_empty) {
                problems.push(Problem::new(&name, "names no key"));
            } else if let Some(other) = by_path.insert(path.clone(), name.clone()) {
                problems.push(Problem::new(&name, format!("sets the same key as {other}")));
            } else {
                self.push(name, &path, candidates);
            }
        }
    }

    /// A layer of one key; of the candidates the first counts while it fits.
    fn push(&mut self, source: String, path: &[String], mut candidates: Vec<Value>) {
        let first = candidates.remove(0);
        let mut data = Dict::new();
        put(&mut data, path, first);
        self.layers.push(Layer {
            source,
            data,
            path: path.to_vec(),
            alternatives: candidates,
        });
    }

    /// Reads the whole. A value that does not fit is noted, taken out, and the search goes on; `None` when nothing can
    /// be read at all.
    pub(super) fn extract<T: Serialize + DeserializeOwned>(
        mut self,
        defaults: &T,
        problems: &mut Vec<Problem>,
    ) -> Option<T> {
        let mut first_errors: BTreeMap<Path, Box<figment::Error>> = BTreeMap::new();
        // Each turn takes out one value or one alternative, so that this ends.
        while problems.len() < MOST_PROBLEMS {
            let error = match self.try_extract(defaults) {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let path = path_of_error(&error);
            let Some(layer) = self
                .layers
                .iter_mut()
                .rev()
                .find(|layer| has(&layer.data, &path))
            else {
                problems.push(Problem::new(path.join("."), message_of(&error)));
                return None;
            };
            // An error above the key of a variable is about what the key is, not about its value.
            let is_value = !layer.path.is_empty() && path.starts_with(&layer.path);
            if is_value
                && !layer.alternatives.is_empty()
                && !matches!(error.kind, Kind::UnknownField(..))
            {
                let next = layer.alternatives.remove(0);
                put(&mut layer.data, &layer.path, next);
                first_errors.entry(layer.path.clone()).or_insert(error);
                continue;
            }
            let key = if is_value { layer.path.clone() } else { path };
            take(&mut layer.data, &key);
            let told = first_errors.remove(&key).unwrap_or(error);
            let message = format!("{} (from {})", message_of(&told), layer.source);
            problems.push(Problem::new(key.join("."), message));
        }
        None
    }

    fn try_extract<T: Serialize + DeserializeOwned>(
        &self,
        defaults: &T,
    ) -> Result<T, Box<figment::Error>> {
        secret::revealed(|| {
            let base = Figment::from(Serialized::defaults(defaults));
            self.layers
                .iter()
                .fold(base, |figment, layer| figment.merge(layer))
                .extract()
                .map_err(Box::new)
        })
    }
}

fn path_of(name: &str) -> Path {
    name.to_ascii_lowercase()
        .split(SEPARATOR)
        .map(str::to_owned)
        .collect()
}

/// What a text may mean: the text itself, which a password of digits is, else a number, a list and so on.
fn candidates(text: &str) -> Vec<Value> {
    let parsed = text.parse::<Value>().unwrap_or_else(|never| match never {});
    vec![Value::from(text), parsed]
}

fn trim_line_end(content: &str) -> &str {
    let content = content.strip_suffix('\n').unwrap_or(content);
    content.strip_suffix('\r').unwrap_or(content)
}

/// Whether a setting of this very name exists, e.g. `tls.cert_file`; then `_FILE` is part of its name.
fn is_known(known: &serde_json::Value, path: &[String]) -> bool {
    path.iter().try_fold(known, |at, key| at.get(key)).is_some()
}

fn path_of_error(error: &figment::Error) -> Path {
    let mut path = error.path.clone();
    if let Kind::UnknownField(name, _) = &error.kind
        && path.last() != Some(name)
    {
        path.push(name.clone());
    }
    path
}

/// What is wrong, without the value, which may be a secret.
fn message_of(error: &figment::Error) -> String {
    match &error.kind {
        Kind::UnknownField(_, []) => "is not a setting".to_owned(),
        Kind::UnknownField(_, known) => {
            format!("is not a setting; there are {}", known.join(", "))
        }
        Kind::UnknownVariant(_, known) => format!("must be one of {}", known.join(", ")),
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            format!("must be {expected}")
        }
        kind => kind.to_string(),
    }
}

/// Lists are values as a whole here: a path into one ends at the list.
fn has(data: &Dict, path: &[String]) -> bool {
    match path {
        [] => false,
        [last] => data.contains_key(last),
        [first, rest @ ..] => match data.get(first) {
            Some(Value::Dict(_, inner)) => has(inner, rest),
            Some(_) => true,
            None => false,
        },
    }
}

fn put(data: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            data.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = data
                .entry(first.clone())
                .or_insert_with(|| Value::from(Dict::new()));
            match inner {
                Value::Dict(_, inner) => put(inner, rest, value),
                other => *other = value,
            }
        }
    }
}

fn take(data: &mut Dict, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            data.remove(last);
        }
        [first, rest @ ..] => match data.get_mut(first) {
            Some(Value::Dict(_, inner)) => take(inner, rest),
            _ => {
                data.remove(first);
            }
        },
    }
}
