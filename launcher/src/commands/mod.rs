//! The `coffer` command line: one file per command.

mod check_config;
mod config_example;
mod demo;
mod events_redrive;
mod keys;
mod ledger_verify;
mod migrate;
mod up;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigErrors};

/// A self-hosted wallet backend. Without a command it starts the product.
#[derive(Debug, Parser)]
#[command(name = "coffer", version, about)]
pub struct Args {
    /// Settings in TOML; the environment (COFFER_…) overrides them.
    #[arg(long, global = true, value_name = "FILE", env = platform::config::FILE_VARIABLE)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything in this process (the default)
    Up,
    /// Play the main journey against a running product and report what held
    Demo(demo::Demo),
    /// Tell every problem of the configuration, or print it as it will be used, secrets masked
    CheckConfig,
    /// Settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Move the schemas of all services
    Migrate(migrate::Migrate),
    /// Facts between the services
    #[command(subcommand)]
    Events(EventsCommand),
    /// The books
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Secrets that separate services share
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every setting with its default, as TOML
    Example,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Deliver the dead letters of every service once more; the product must be stopped
    Redrive,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Check that entries sum to zero and balances equal their entries
    Verify(ledger_verify::Verify),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a complete set, once for all services; what is there is never overwritten
    Create(keys::Create),
}

/// Why a command did not do what it should.
enum Failure {
    /// The configuration cannot be used.
    Configuration(ConfigErrors),
    /// It ran, and says no. It has told why.
    Refused,
    /// It broke.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Configuration(errors)
    }
}

/// There is no data folder yet, so there is nothing to look at.
fn no_data(config: &Config) -> Failure {
    let folder = config.data_dir.display();
    Failure::Broken(anyhow::anyhow!(
        "there is no data in {folder} yet. `coffer up` makes it; COFFER_DATA_DIR names another folder."
    ))
}

impl Args {
    /// Runs the command to its end.
    pub fn run(self) -> ExitCode {
        let outcome = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(Failure::from)
            .and_then(|runtime| runtime.block_on(self.dispatch()));
        let mut stderr = std::io::stderr();
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Refused) => ExitCode::FAILURE,
            // Whoever read our output has enough.
            Err(Failure::Broken(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
            // A closed terminal is no reason to change the exit code.
            Err(Failure::Configuration(errors)) => {
                let _ = writeln!(stderr, "{errors}");
                ExitCode::from(platform::config::EXIT_CODE)
            }
            Err(Failure::Broken(error)) => {
                let _ = writeln!(stderr, "coffer: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    async fn dispatch(self) -> Result<(), Failure> {
        let config = || Config::load(self.config.as_deref());
        match self.command.unwrap_or(Command::Up) {
            Command::Up => up::run(config()?).await,
            Command::Demo(demo) => demo.run(config()?).await,
            Command::CheckConfig => check_config::run(&config()?),
            Command::Config(ConfigCommand::Example) => config_example::run(),
            Command::Migrate(migrate) => migrate.run(&config()?).await,
            Command::Events(EventsCommand::Redrive) => events_redrive::run(&config()?).await,
            Command::Ledger(LedgerCommand::Verify(verify)) => verify.run(&config()?).await,
            Command::Keys(KeysCommand::Create(create)) => create.run(),
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_command_means_up() {
        let args = Args::parse_from(["coffer"]);
        assert!(args.command.is_none());
    }
}
