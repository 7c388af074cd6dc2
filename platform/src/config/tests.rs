use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

/// Settings of a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    /// How often to try.
    tries: u32,
    /// A word.
    word: String,
    /// Hosts to ask,
    /// in this order.
    hosts: Vec<String>,
    /// Proof of who we are.
    password: Secret,
    /// Absent unless set.
    proxy: Option<String>,
    /// Where things are kept.
    store: Store,
    /// Where telemetry goes.
    telemetry: crate::telemetry::TelemetryConfig,
    /// Numbers by name.
    limits: BTreeMap<String, i64>,
}

/// Where things are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Store {
    /// Address with password.
    url: String,
    /// A certificate's path.
    cert_file: String,
    /// Share of the machine.
    share: f64,
    /// Inner secret.
    key: Secret,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: String::new(),
            cert_file: "x.pem".into(),
            share: 0.5,
            key: "built-in".into(),
        }
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            tries: 3,
            word: "say \"hi\"\n".into(),
            hosts: vec!["a".into(), "b".into()],
            password: Secret::default(),
            proxy: None,
            store: Store::default(),
            telemetry: Default::default(),
            limits: [("a b".to_owned(), -1)].into(),
        }
    }
}

impl Validate for Sample {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = nested("telemetry", &self.telemetry);
        if self.tries == 0 {
            problems.push(Problem::new("tries", "must be at least 1"));
        }
        problems
    }
}

fn read(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Sample, ConfigErrors> {
    let variables = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    load_from(
        Sample::default(),
        file.map(|text| ("coffer.toml", text)),
        variables,
        Vec::new(),
        &|_| true,
    )
}

#[test]
fn a_job_that_needs_one_section_hears_of_no_other() {
    let variables = || vec![("COFFER_TRIES".to_owned(), "0".to_owned())];
    let read = |counts: &dyn Fn(&str) -> bool| {
        load_from(Sample::default(), None, variables(), Vec::new(), counts)
    };
    assert!(read(&|_| true).is_err());
    assert!(read(&|key| key == "database").is_ok());
}

fn problem_keys(result: Result<Sample, ConfigErrors>) -> Vec<String> {
    result
        .unwrap_err()
        .problems
        .into_iter()
        .map(|problem| problem.key)
        .collect()
}

#[test]
fn without_anything_the_defaults_count() {
    assert_eq!(read(None, &[]).unwrap(), Sample::default());
    assert_eq!(
        read(Some(""), &[("COFFER_CONFIG", "x"), ("COFFER_TEST_X", "y")]).unwrap(),
        Sample::default()
    );
}

#[test]
fn the_environment_is_stronger_than_the_file_and_the_file_than_the_profile() {
    let file = "tries = 5\n[store]\nshare = 0.25\nurl = 'f'\n";
    let config = read(
        Some(file),
        &[("COFFER_TRIES", "7"), ("COFFER_STORE__URL", "e")],
    )
    .unwrap();
    assert_eq!(
        (config.tries, config.store.share, config.store.url.as_str()),
        (7, 0.25, "e")
    );
    assert_eq!(
        config.store.key.reveal(),
        "built-in",
        "secrets among the defaults survive"
    );

    let format = |file, profile| {
        read(file, &[("COFFER_PROFILE", profile)])
            .unwrap()
            .telemetry
            .format
    };
    use crate::telemetry::Format;
    assert_eq!(format(None, "development"), Format::Text);
    assert_eq!(format(None, "production"), Format::Json);
    assert_eq!(
        format(Some("[telemetry]\nformat = 'text'"), "production"),
        Format::Text
    );
}

#[test]
fn text_from_the_environment_takes_the_type_of_its_key() {
    let config = read(
        None,
        &[
            ("COFFER_WORD", "0042"),
            ("COFFER_PASSWORD", "true"),
            ("COFFER_HOSTS", "[x, y, z]"),
            ("COFFER_PROXY", "\"1\""),
        ],
    );
    let config = config.unwrap();
    assert_eq!(config.word, "0042");
    assert_eq!(config.password.reveal(), "true");
    assert_eq!(config.hosts, ["x", "y", "z"]);
    assert_eq!(config.proxy.as_deref(), Some("\"1\""));
}

#[test]
fn secrets_come_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "12345\n").unwrap();
    let path = path.to_str().unwrap();
    let config = read(
        None,
        &[
            ("COFFER_STORE__KEY_FILE", path),
            ("COFFER_TRIES_FILE", path),
            ("COFFER_STORE__CERT_FILE", "y.pem"),
        ],
    );
    let config = config.unwrap();
    assert_eq!(config.store.key.reveal(), "12345");
    assert_eq!(config.tries, 12345);
    assert_eq!(
        config.store.cert_file, "y.pem",
        "a key of that name is meant itself"
    );
    assert_eq!(
        problem_keys(read(None, &[("COFFER_PASSWORD_FILE", "/does/not/exist")])),
        ["COFFER_PASSWORD_FILE"]
    );
    let both = [("COFFER_PASSWORD", "a"), ("COFFER_PASSWORD_FILE", path)];
    assert_eq!(problem_keys(read(None, &both)), ["COFFER_PASSWORD_FILE"]);
}

#[test]
fn every_problem_is_reported_at_once() {
    let file = "tries = 'many'\nwrod = 'x'\n[store]\nshare = []\nsize = 1\n[stoer]\na = 1\n[telemetry]\nlevel = '=='\n";
    let variables = [
        ("COFFER_HOSTS", "7"),
        ("COFFER_STORE__URL__X", "1"),
        ("COFFER_NOPE__DEEP", "1"),
        ("COFFER_PROFILE", "prod"),
    ];
    let mut keys = problem_keys(read(Some(file), &variables));
    keys.sort();
    let expected = [
        "COFFER_PROFILE",
        "hosts",
        "nope",
        "stoer",
        "store.share",
        "store.size",
        "store.url",
        "telemetry.level",
        "tries",
        "wrod",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn problems_name_their_source_and_not_their_value() {
    let error = read(Some("tries = 'many'"), &[("COFFER_STORE__SHARE", "h4lf")]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("coffer.toml") && text.contains("COFFER_STORE__SHARE"),
        "{text}"
    );
}

#[test]
fn a_broken_file_does_not_hide_other_problems() {
    let keys = problem_keys(read(Some("= nonsense"), &[("COFFER_TRIES", "0")]));
    assert_eq!(keys, ["coffer.toml", "tries"]);
}

#[test]
fn production_refuses_loud_logs() {
    let variables = [
        ("COFFER_PROFILE", "production"),
        ("COFFER_TELEMETRY__LEVEL", "warn,sqlx=debug"),
    ];
    assert_eq!(problem_keys(read(None, &variables)), ["telemetry.level"]);
    assert!(read(None, &variables[1..]).is_ok());
}

#[test]
fn the_example_explains_and_reads_back_as_the_defaults() {
    let text = example(&Sample::default());
    assert_eq!(read(Some(&text), &[]).unwrap(), Sample::default(), "{text}");
    for line in [
        "# How often to try.\ntries = 3",
        "# in this order.",
        "[store]",
        "# proxy =",
        "\"a b\" = -1",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(text.contains("# One of \"text\", \"json\"."), "{text}");
}

#[test]
fn nothing_secret_is_shown() {
    let mut config = Sample {
        password: "hunter2".into(),
        ..Sample::default()
    };
    config.store.url =
        "postgres://coffer:hunter2@db:5432/wallet?sslmode=require&sslpassword=hunter2".into();
    config.proxy = Some("http://p:hunter2/@[x@proxy:1/".into());
    config.hosts = vec![
        "amqp://u:hunter2@mq".into(),
        "https://plain.example/a@b".into(),
    ];
    let text = masked(&config);
    assert!(
        !text.contains("hunter2") && !text.contains("built-in"),
        "{text}"
    );
    assert!(
        text.contains("postgres://coffer:***@db:5432/wallet?sslmode=require&sslpassword=***"),
        "{text}"
    );
    assert!(
        text.contains("amqp://u:***@mq") && text.contains("tries = 3"),
        "{text}"
    );
    let debug = format!(
        "{:?} {}",
        config.password,
        serde_json::to_string(&config.password).unwrap()
    );
    assert!(!debug.contains("hunter2"), "{debug}");
}
