use std::io::Write;

use super::Failure;
use crate::config::Config;

/// Loading has told every problem; what is left is to show the result.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{}", platform::config::masked(config))?;
    Ok(())
}
