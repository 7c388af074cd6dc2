//! When as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use platform::database::Direction;
use platform::process::{Needs, Program, Stage};
use scheduler_service::SchedulerConfig;

platform::service_settings! {
    /// What happens on a schedule.
    scheduler: SchedulerConfig,
    scheduler_service::SERVICE,
    Needs { auth: true, redis: false }
}

impl Program for Settings {
    const NAME: &'static str = scheduler_service::SERVICE;

    async fn start(self, stage: &Stage) -> anyhow::Result<SocketAddr> {
        let handles = self.surroundings().open(stage)?;
        let (listener, address) = self.surroundings().listen().await?;
        scheduler_service::run(self.scheduler, listener, handles).await?;
        Ok(address)
    }

    async fn migrate(&self, direction: Direction) -> anyhow::Result<String> {
        scheduler_service::migrate(&self.scheduler, direction).await
    }
}

fn main() -> ExitCode {
    platform::process::main::<Settings>()
}
