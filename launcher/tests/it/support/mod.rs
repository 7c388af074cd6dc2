pub(crate) mod clock;
pub(crate) mod process;
pub(crate) mod product;

use std::path::Path;

use launcher::config::Config;
use platform::database::DatabaseConfig;

/// What every process of a test is given: no rate limits, cheap passwords, no colours.
pub(crate) const TEST_ENV: [(&str, &str); 4] = [
    ("COFFER_GATEWAY__RATE_LIMIT__ENABLED", "false"),
    ("COFFER_AUTH__PASSWORD_HASH__MEMORY_KIB", "64"),
    ("COFFER_AUTH__PASSWORD_HASH__ITERATIONS", "1"),
    ("NO_COLOR", "1"),
];

/// The databases of the product on a data folder, by the service that keeps its state there.
pub(crate) fn databases(data: &Path) -> [(&'static str, DatabaseConfig); 4] {
    let config = Config {
        data_dir: data.to_owned(),
        ..Config::default()
    };
    let config = config.rooted();
    [
        ("auth", config.auth.database),
        ("wallet", config.wallet.database),
        ("notify", config.notify.database),
        ("scheduler", config.scheduler.database),
    ]
}
