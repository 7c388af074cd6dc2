//! Configuration: defaults < profile < file < environment, checked once and completely.
//!
//! * The profile (`COFFER_PROFILE`: `development`, `staging` or `production`) changes a few defaults and is stricter
//!   the closer it is to real money.
//! * The file is TOML.
//! * `COFFER_A__B=x` sets the key `a.b`; `COFFER_A__B_FILE=/path` sets it to what the file holds, for secrets.
//!
//! Unknown keys are refused. All problems are reported at once.

mod layers;
mod render;
mod secret;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use layers::Layers;

pub use render::{example, masked};
pub use secret::Secret;

/// What a process exits with when its configuration has problems (`EX_USAGE`).
pub const EXIT_CODE: u8 = 64;

/// The variable that names the profile.
pub const PROFILE_VARIABLE: &str = "COFFER_PROFILE";
/// The variable that names the file; read by whoever calls [`load`].
pub const FILE_VARIABLE: &str = "COFFER_CONFIG";

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, e.g. `database.url`.
    pub key: String,
    /// What is wrong with it, for a person.
    pub message: String,
}

impl Problem {
    /// A problem with `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// Everything that is wrong with the configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The problems in the order in which they were found.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the configuration has {} problem(s):",
            self.problems.len()
        )?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Settings that can tell what is wrong with them.
pub trait Validate {
    /// Every problem, with keys relative to this struct; empty when there is none.
    fn validate(&self) -> Vec<Problem>;
}

/// The problems of a section, with keys relative to the struct that holds it under `name`.
pub fn nested(name: &str, section: &impl Validate) -> Vec<Problem> {
    let problems = section.validate();
    problems
        .into_iter()
        .map(|p| Problem::new(format!("{name}.{}", p.key), p.message))
        .collect()
}

/// How close an installation is to real money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Profile {
    /// On the desk of a developer.
    #[default]
    Development,
    /// Like production, with money that is not real.
    Staging,
    /// With real money.
    Production,
}

impl Profile {
    /// The profile of this process; development when none is named. [`load`] tells when the name is wrong.
    pub fn of_process() -> Self {
        let name = std::env::var_os(PROFILE_VARIABLE);
        name.and_then(|name| name.to_str()?.parse().ok())
            .unwrap_or_default()
    }
}

impl FromStr for Profile {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "development" => Ok(Self::Development),
            "staging" => Ok(Self::Staging),
            "production" => Ok(Self::Production),
            _ => Err(Problem::new(
                PROFILE_VARIABLE,
                "must be development, staging or production",
            )),
        }
    }
}

/// Reads the configuration of this process.
///
/// # Errors
/// Every problem there is: of the file, of single keys, and those that [`Validate`] finds. Values that cannot be read
/// are replaced by their defaults while looking for further problems.
pub fn load<T>(defaults: T, file: Option<&Path>) -> Result<T, ConfigErrors>
where
    T: Serialize + DeserializeOwned + JsonSchema + Validate,
{
    load_where(defaults, file, &|_| true)
}

/// As [`load`], for a job that needs one section only: what [`Validate`] finds elsewhere does not count. `section` is any
/// part of a key, e.g. `database` of `wallet.database.url`.
///
/// # Errors
/// As [`load`].
pub fn load_for<T>(defaults: T, file: Option<&Path>, section: &str) -> Result<T, ConfigErrors>
where
    T: Serialize + DeserializeOwned + JsonSchema + Validate,
{
    let counts = |key: &str| key.split('.').any(|part| part == section);
    load_where(defaults, file, &counts)
}

fn load_where<T>(
    defaults: T,
    file: Option<&Path>,
    counts: &dyn Fn(&str) -> bool,
) -> Result<T, ConfigErrors>
where
    T: Serialize + DeserializeOwned + JsonSchema + Validate,
{
    let mut problems = Vec::new();
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name
            .to_str()
            .filter(|name| name.starts_with(layers::PREFIX))
        else {
            continue;
        };
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(_) => problems.push(Problem::new(name, "is not UTF-8")),
        }
    }
    let text = file.and_then(|path| {
        let read = std::fs::read_to_string(path);
        let failed = |error| {
            Problem::new(
                path.display().to_string(),
                format!("cannot be read: {error}"),
            )
        };
        read.map_err(|error| problems.push(failed(error))).ok()
    });
    let name = file
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    load_from(
        defaults,
        text.as_deref().map(|text| (name.as_str(), text)),
        variables,
        problems,
        counts,
    )
}

/// [`load`] without the outside world: `file` is a name and a text, `problems` are those found so far.
fn load_from<T>(
    defaults: T,
    file: Option<(&str, &str)>,
    variables: Vec<(String, String)>,
    mut problems: Vec<Problem>,
    counts: &dyn Fn(&str) -> bool,
) -> Result<T, ConfigErrors>
where
    T: Serialize + DeserializeOwned + JsonSchema + Validate,
{
    let profile = variables
        .iter()
        .find(|(name, _)| name == PROFILE_VARIABLE)
        .map_or(Ok(Profile::default()), |(_, value)| value.parse())
        .unwrap_or_else(|problem| {
            problems.push(problem);
            Profile::default()
        });
    let known =
        secret::revealed(|| serde_json::to_value(&defaults)).map_err(|error| ConfigErrors {
            problems: vec![Problem::new("defaults", error.to_string())],
        })?;
    let mut layers = Layers::default();
    layers.push_profile(profile, &known);
    if let Some((name, text)) = file {
        layers.push_file(name, text, &mut problems);
    }
    layers.push_variables(variables, &known, &mut problems);
    let config = layers.extract(&defaults, &mut problems);
    if let Some(config) = &config {
        let found = config.validate().into_iter().chain(strict(profile, config));
        problems.extend(found.filter(|problem| counts(&problem.key)));
    }
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigErrors { problems }),
    }
}

/// What is refused only where money is real.
fn strict(profile: Profile, config: &impl Serialize) -> Vec<Problem> {
    let Ok(config) = serde_json::to_value(config) else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    if profile == Profile::Production
        && let Some(level) = config
            .pointer("/telemetry/level")
            .and_then(|level| level.as_str())
        && ["debug", "trace"]
            .iter()
            .any(|loud| level.to_ascii_lowercase().contains(loud))
    {
        problems.push(Problem::new(
            "telemetry.level",
            "must not be debug or trace in production: such lines may tell too much about people",
        ));
    }
    problems
}

#[cfg(test)]
mod tests;
