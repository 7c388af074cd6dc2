//! Renews `published.txt` after contracts were added to. Refuses when anything that was published would break.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use proto::contracts::Contracts;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/published.txt");

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let current = Contracts::current()?;
    let mut out = std::io::stderr().lock();
    if Path::new(PATH).exists() {
        let published = Contracts::parse(&std::fs::read_to_string(PATH)?)?;
        let broken = published.broken_by(&current);
        for one in &broken {
            writeln!(out, "{one}")?;
        }
        if !broken.is_empty() {
            writeln!(out, "Nothing was written: this breaks what was published.")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    std::fs::write(PATH, current.to_string())?;
    writeln!(out, "{PATH} is up to date.")?;
    Ok(ExitCode::SUCCESS)
}
