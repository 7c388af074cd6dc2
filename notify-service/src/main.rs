//! Messages as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use notify_service::NotifyConfig;
use platform::database::Direction;
use platform::process::{Needs, Program, Stage};

platform::service_settings! {
    /// Messages to one person.
    notify: NotifyConfig,
    notify_service::NAME,
    Needs { auth: true, redis: true }
}

impl Program for Settings {
    const NAME: &'static str = notify_service::NAME;

    async fn start(self, stage: &Stage) -> anyhow::Result<SocketAddr> {
        let handles = self.surroundings().open(stage)?;
        let (listener, address) = self.surroundings().listen().await?;
        handles.keys.ensure_opens_mail()?;
        notify_service::run(self.notify, listener, handles).await?;
        Ok(address)
    }

    async fn migrate(&self, direction: Direction) -> anyhow::Result<String> {
        notify_service::migrate(&self.notify, direction).await
    }

    async fn redrive(self, stage: &Stage) -> anyhow::Result<u64> {
        let handles = self.surroundings().open(stage)?;
        notify_service::redrive(&self.notify, &handles).await
    }
}

fn main() -> ExitCode {
    platform::process::main::<Settings>()
}
