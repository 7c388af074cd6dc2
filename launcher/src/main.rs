//! The `coffer` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    launcher::commands::Args::parse().run()
}
