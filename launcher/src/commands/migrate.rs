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
        if direction == Direction::Status && !config.data_dir.exists() {
            return Err(super::no_data(config));
        }
        // Nobody may work on a schema that moves.
        let moves = direction != Direction::Status;
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
