use super::Failure;
use crate::config::Config;
use crate::up;

pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let _telemetry = platform::telemetry::init(&config.telemetry, "coffer")
        .map_err(|error| anyhow::anyhow!("telemetry cannot start: {error}"))?;
    Ok(up::run(config).await?)
}
