use std::io::Write;

use super::Failure;
use crate::config::Config;

pub(super) fn run() -> Result<(), Failure> {
    writeln!(
        std::io::stdout(),
        "{}",
        platform::config::example(&Config::default())
    )?;
    Ok(())
}
