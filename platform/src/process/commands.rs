//! The command line that every program has.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Program, Stage, run};
use crate::clock::SystemClock;
use crate::config::{self, ConfigErrors};
use crate::database::Direction;
use crate::health::Health;
use crate::{Tasks, telemetry};

/// Longest that the health command waits.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// A part of Coffer as a process of its own. Without a command it serves.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(super) struct Args {
    /// Settings in TOML; the environment (COFFER_…) overrides them.
    #[arg(long, global = true, value_name = "FILE", env = config::FILE_VARIABLE)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop (the default)
    Run,
    /// Move the schema of this service's database; any number may try at once
    Migrate {
        direction: Way,
        /// Go down although it drops tables with everything in them
        #[arg(long)]
        lose_data: bool,
    },
    /// Deliver the dead letters of this service once more; it may run meanwhile
    Redrive,
    /// Tell every problem of the configuration, or print it as it will be used, secrets masked
    CheckConfig,
    /// Print every setting with its default, as TOML
    ConfigExample,
    /// Ask the running process on its port for metrics whether it is ready; for health checks of containers
    Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Apply what is pending
    Up,
    /// Undo the newest migration
    Down,
    /// Tell what is applied and what is pending
    Status,
}

/// Longest that threads which block are waited for at the very end.
const LAST_MOMENT: Duration = Duration::from_secs(1);

enum Failure {
    Configuration(ConfigErrors),
    Broken(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast::<ConfigErrors>() {
            Ok(errors) => Self::Configuration(errors),
            Err(error) => Self::Broken(error),
        }
    }
}

impl Args {
    /// Those that the process was started with; ends it where they are wrong.
    pub(super) fn of_process(name: &'static str) -> Self {
        let about =
            format!("Coffer's {name} as a process of its own. Without a command it serves.");
        let command = Self::command().name(name).bin_name(name);
        let matches = command.about(about).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    pub(super) fn run<P: Program>(self) -> ExitCode {
        let outcome = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(Failure::from)
            .and_then(|runtime| {
                let outcome = runtime.block_on(self.dispatch::<P>());
                // What blocks a thread, such as a name server that does not answer, must not keep the process.
                runtime.shutdown_timeout(LAST_MOMENT);
                outcome
            });
        let mut stderr = std::io::stderr();
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            // A closed terminal is no reason to change the exit code.
            Err(Failure::Configuration(errors)) => {
                let _ = writeln!(stderr, "{errors}");
                ExitCode::from(config::EXIT_CODE)
            }
            Err(Failure::Broken(error)) => {
                let _ = writeln!(stderr, "{}: {error:#}", P::NAME);
                ExitCode::FAILURE
            }
        }
    }

    async fn dispatch<P: Program>(self) -> Result<(), Failure> {
        let file = self.config.as_deref();
        let settings = || config::load(P::default(), file);
        // A job needs not all that a server needs.
        let settings_for = |section: &str| config::load_for(P::default(), file, section);
        let mut out = std::io::stdout();
        match self.command.unwrap_or(Command::Run) {
            Command::Run => run(settings()?).await?,
            Command::Migrate {
                direction,
                lose_data,
            } => {
                let settings = settings_for("database")?;
                ensure_wanted(direction, lose_data)?;
                let direction = match direction {
                    Way::Up => Direction::Up,
                    Way::Down => Direction::Down,
                    Way::Status => Direction::Status,
                };
                writeln!(out, "{}", settings.migrate(direction).await?)?;
            }
            Command::Redrive => {
                let settings = settings()?;
                let _telemetry = telemetry::init(settings.telemetry(), P::NAME)?;
                let stage = Stage {
                    clock: SystemClock::shared(),
                    tasks: Tasks::new(),
                    health: Health::default(),
                };
                let done = settings.redrive(&stage).await?;
                stage.tasks.shutdown(HEALTH_PATIENCE).await;
                writeln!(out, "{done} came back")?;
            }
            Command::CheckConfig => write!(out, "{}", config::masked(&settings()?))?,
            Command::ConfigExample => write!(out, "{}", config::example(&P::default()))?,
            Command::Health => ask_health(&settings_for("metrics")?.metrics().listen).await?,
        }
        Ok(())
    }
}

fn ensure_wanted(direction: Way, lose_data: bool) -> anyhow::Result<()> {
    ensure!(
        direction != Way::Down || lose_data,
        "`migrate down` drops the tables of the newest migration with everything in them. Nothing was done. Make a \
         backup, then say --lose-data."
    );
    Ok(())
}

async fn ask_health(listen: &str) -> anyhow::Result<()> {
    ensure!(
        !listen.is_empty(),
        "metrics.listen is empty, so there is no port to ask"
    );
    let (host, port) = listen.rsplit_once(':').context("metrics.listen")?;
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    let asked = async {
        let mut socket = TcpStream::connect(format!("{host}:{port}")).await?;
        let request =
            format!("GET /health/ready HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.take(65_536).read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(HEALTH_PATIENCE, asked)
        .await
        .context("no answer in time")??;
    let report = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    ensure!(answer.starts_with("HTTP/1.1 200"), "not ready: {report}");
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn tables_are_not_dropped_by_accident() {
        assert!(ensure_wanted(Way::Down, false).is_err());
        assert!(ensure_wanted(Way::Down, true).is_ok());
        assert!(ensure_wanted(Way::Up, false).is_ok());
    }
}
