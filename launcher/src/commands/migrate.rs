use std::io::Write;

use clap::{Args, ValueEnum};
use platform::database::Direction;

use super::Failure;
use crate::config::Config;
use crate::up::DataDir;

#[derive(Debug, Args)]
pub(super) struct Migrate {
    direction: Way,
    /// Go down although it drops tables with everything in them
    #[arg(long)]
    lose_data: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    /// Apply what is pending
    Up,
    /// Undo the newest migration of each service
    Down,
    /// Tell what is applied and what is pending
    Status,
}

impl Migrate {
    pub(super) async fn run(self, config: &Config) -> Result<(), Failure> {
        let direction = match self.direction {
            Way::Up => Direction::Up,
            Way::Down => Direction::Down,
            Way::Status => Direction::Status,
        };
        if direction == Direction::Down && !self.lose_data {
            writeln!(
                std::io::stderr(),
                "coffer: `migrate down` drops the tables of the newest migration of each service, with everything \
                 in them. Nothing was done. Make a copy of {}, then say --lose-data.",
                config.data_dir.display()
            )?;
            return Err(Failure::Refused);
        }
        if direction == Direction::Status
            && config.auth.database.url.starts_with("sqlite")
            && !config.data_dir.exists()
        {
            return Err(super::no_data(config));
        }
        let urls = [
            &config.auth.database.url,
            &config.wallet.database.url,
            &config.notify.database.url,
            &config.scheduler.database.url,
        ];
        let files = urls.iter().filter(|url| url.starts_with("sqlite")).count();
        if (1..urls.len()).contains(&files) {
            writeln!(
                std::io::stderr(),
                "coffer: some services have a database on a server and {files} have none. Nothing was done. Set the \
                 URLs of all four, or of none."
            )?;
            return Err(Failure::Refused);
        }
        // Nobody may work on a schema that moves; servers see to that themselves.
        let moves = direction != Direction::Status && files > 0;
        let _data_dir = moves.then(|| DataDir::lock(&config.data_dir)).transpose()?;
        let reports = [
            (
                "auth-service",
                auth_service::migrate(&config.auth, direction).await?,
            ),
            (
                "wallet-service",
                wallet_service::migrate(&config.wallet, direction).await?,
            ),
            (
                "notify-service",
                notify_service::migrate(&config.notify, direction).await?,
            ),
            (
                "scheduler-service",
                scheduler_service::migrate(&config.scheduler, direction).await?,
            ),
        ];
        let mut out = std::io::stdout();
        for (service, report) in reports {
            writeln!(out, "{service}")?;
            for line in report.lines() {
                writeln!(out, "  {line}")?;
            }
        }
        Ok(())
    }
}
