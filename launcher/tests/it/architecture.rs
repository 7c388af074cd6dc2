//! Who may reach what: read from the manifests and the sources.

use std::fs;
use std::path::{Path, PathBuf};

const SERVICES: [&str; 5] = [
    "gateway",
    "auth-service",
    "wallet-service",
    "notify-service",
    "scheduler-service",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace")
        .to_owned()
}

/// Names in the dependency tables of a member, those for tests included.
fn dependencies(member: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(member).join("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = text.parse().expect("TOML");
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    tables
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect()
}

/// Every Rust file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Lines of code below `folder` that name one of `words`, comments left out.
fn naming(folder: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in sources(folder) {
        let text = fs::read_to_string(&path).expect("a source");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                let path = path
                    .strip_prefix(root())
                    .expect("inside")
                    .display()
                    .to_string();
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn no_service_depends_on_another_service() {
    for member in SERVICES.iter().chain(&["platform", "proto"]) {
        let depends = dependencies(member);
        let others: Vec<&String> = depends
            .iter()
            .filter(|name| SERVICES.contains(&name.as_str()))
            .collect();
        assert!(others.is_empty(), "{member} depends on {others:?}");
        assert!(
            !depends.contains(&"launcher".to_owned()),
            "{member} depends on the launcher"
        );
    }
}

#[test]
fn the_platform_knows_no_business_contract() {
    let business = ["proto::wallet", "proto::notify", "proto::scheduler"];
    let found = naming(&root().join("platform/src"), &business);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_gateway_has_no_storage() {
    let storage = ["sea-orm", "sea-orm-migration", "sqlx"];
    let depends = dependencies("gateway");
    assert!(
        depends.iter().all(|name| !storage.contains(&name.as_str())),
        "{depends:?}"
    );
}

#[test]
fn domains_are_pure() {
    let outside = [
        "sea_orm",
        "tonic::",
        "axum::",
        "tokio::",
        "proto::",
        "async fn",
        "Timestamp::now",
        "std::fs",
        "std::env",
    ];
    for service in SERVICES {
        let found = naming(&root().join(service).join("src/domain"), &outside);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn only_storage_speaks_to_the_database() {
    // Which database it is, and a transaction to pass on, others may name.
    let harmless = [
        "sea_orm::ConnectionTrait",
        "sea_orm::DatabaseTransaction",
        "sea_orm::DbBackend",
    ];
    for service in SERVICES {
        let source = root().join(service).join("src");
        let storage = format!("{service}/src/storage");
        let found: Vec<String> = naming(
            &source,
            &["sea_orm", "sea_query", "sqlx", "SELECT ", "UPDATE "],
        )
        .into_iter()
        .filter(|line| !line.starts_with(&storage))
        .filter(|line| !harmless.iter().any(|word| line.contains(word)))
        .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn money_is_never_a_float() {
    let found = naming(&root().join("wallet-service/src"), &["f64", "f32"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
