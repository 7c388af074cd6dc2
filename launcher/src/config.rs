//! Settings of the whole product in one process.

use std::path::{Path, PathBuf};

use auth_service::AuthConfig;
use gateway::GatewayConfig;
use notify_service::NotifyConfig;
use platform::config::{Problem, Validate, nested};
use platform::database::DatabaseConfig;
use platform::process::{MetricsConfig, is_address};
use platform::telemetry::TelemetryConfig;
use scheduler_service::SchedulerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wallet_service::WalletConfig;

pub use platform::config::ConfigErrors;

/// Settings of the whole product in one process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the public API.
    pub http_listen: String,
    /// Folder of everything that is kept. One process at a time.
    pub data_dir: PathBuf,
    /// The port for those who watch; there is none unless it is set.
    pub metrics: MetricsConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// The public door.
    pub gateway: GatewayConfig,
    /// People and their sessions.
    pub auth: AuthConfig,
    /// Money.
    pub wallet: WalletConfig,
    /// Messages to one person.
    pub notify: NotifyConfig,
    /// What happens on a schedule.
    pub scheduler: SchedulerConfig,
}

impl Default for Config {
    fn default() -> Self {
        let mut scheduler = SchedulerConfig::default();
        // Empty means below the data folder, wherever that is.
        scheduler.simulator.journal = PathBuf::new();
        let mut notify = NotifyConfig::default();
        notify.mail.folder = PathBuf::new();
        notify.mail.public_url = String::new();
        Self {
            http_listen: "127.0.0.1:8080".to_owned(),
            data_dir: PathBuf::from("./data"),
            metrics: MetricsConfig::default(),
            telemetry: TelemetryConfig::default(),
            gateway: GatewayConfig::default(),
            auth: AuthConfig::default(),
            wallet: WalletConfig::default(),
            notify,
            scheduler,
        }
    }
}

impl Config {
    /// Defaults, then the file, then the environment; what is left empty is placed below the data folder.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigErrors> {
        platform::config::load(Self::default(), file).map(Self::rooted)
    }

    /// The same with every empty path and database URL placed below the data folder, and links in mails that lead
    /// to the API.
    pub fn rooted(mut self) -> Self {
        // Where the working directory is gone, the path stays as it is and the folder cannot be made.
        if let Ok(absolute) = std::path::absolute(&self.data_dir) {
            self.data_dir = absolute;
        }
        let data = &self.data_dir;
        for (database, name) in [
            (&mut self.auth.database, "auth"),
            (&mut self.wallet.database, "wallet"),
            (&mut self.notify.database, "notify"),
            (&mut self.scheduler.database, "scheduler"),
        ] {
            place_database(database, data, name);
        }
        place(&mut self.notify.mail.folder, data, "mail");
        if self.notify.mail.public_url.is_empty() {
            self.notify.mail.public_url = format!("http://{}", self.http_listen);
        }
        place(
            &mut self.scheduler.simulator.journal,
            data,
            "sms-simulator.jsonl",
        );
        self
    }

    /// Folder that mails land in.
    pub fn mail_dir(&self) -> PathBuf {
        self.notify.mail.folder.clone()
    }

    /// Folder of the secrets.
    pub fn keys_dir(&self) -> PathBuf {
        self.data_dir.join("keys")
    }
}

fn place(path: &mut PathBuf, data: &Path, name: &str) {
    if path.as_os_str().is_empty() {
        *path = data.join(name);
    }
}

fn place_database(database: &mut DatabaseConfig, data: &Path, name: &str) {
    if database.url.is_empty() {
        let path = data.join(format!("{name}.db"));
        // These characters would end the path within the URL, or be taken for an escape.
        let path = path.to_string_lossy();
        let path = path
            .replace('%', "%25")
            .replace('?', "%3F")
            .replace('#', "%23");
        database.url = format!("sqlite://{path}?mode=rwc");
    }
}

impl Validate for Config {
    fn validate(&self) -> Vec<Problem> {
        let config = self.clone().rooted();
        let mut problems = Vec::new();
        if !is_address(&config.http_listen) {
            let message = "must be an address and a port, e.g. 127.0.0.1:8080";
            problems.push(Problem::new("http_listen", message));
        }
        problems.extend(nested("metrics", &config.metrics));
        problems.extend(nested("telemetry", &config.telemetry));
        problems.extend(nested("gateway", &config.gateway));
        problems.extend(nested("auth", &config.auth));
        problems.extend(nested("wallet", &config.wallet));
        problems.extend(nested("notify", &config.notify));
        problems.extend(nested("scheduler", &config.scheduler));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(Config::default().validate(), []);
    }

    #[test]
    fn what_is_left_empty_lands_below_the_data_folder() {
        let config = Config {
            data_dir: "/tmp/a b?c".into(),
            ..Config::default()
        }
        .rooted();
        assert_eq!(
            config.wallet.database.url,
            "sqlite:///tmp/a b%3Fc/wallet.db?mode=rwc"
        );
        assert_eq!(config.mail_dir(), Path::new("/tmp/a b?c/mail"));
        assert_eq!(config.keys_dir(), Path::new("/tmp/a b?c/keys"));
        let journal = &config.scheduler.simulator.journal;
        assert_eq!(journal, Path::new("/tmp/a b?c/sms-simulator.jsonl"));
    }

    #[test]
    fn what_is_set_stays() {
        let mut config = Config::default();
        config.wallet.database.url = "postgres://localhost/wallet".to_owned();
        assert_eq!(
            config.rooted().wallet.database.url,
            "postgres://localhost/wallet"
        );
    }

    #[test]
    fn problems_of_all_sections_are_told_together() {
        let mut config = Config {
            http_listen: "8080".to_owned(),
            ..Config::default()
        };
        config.wallet.database.max_connections = 0;
        config.notify.database.url = "mysql://nowhere".to_owned();
        let keys: Vec<String> = config.validate().into_iter().map(|p| p.key).collect();
        assert_eq!(
            keys,
            [
                "http_listen",
                "wallet.database.max_connections",
                "notify.database.url"
            ]
        );
    }
}
