//! Who as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use auth_service::AuthConfig;
use platform::database::Direction;
use platform::process::{Needs, Program, Stage};

platform::service_settings! {
    /// People and their sessions.
    auth: AuthConfig,
    auth_service::NAME,
    Needs { auth: false, redis: false }
}

impl Program for Settings {
    const NAME: &'static str = auth_service::NAME;

    async fn start(self, stage: &Stage) -> anyhow::Result<SocketAddr> {
        let handles = self.surroundings().open(stage)?;
        let (listener, address) = self.surroundings().listen().await?;
        auth_service::run(self.auth, listener, handles).await?;
        Ok(address)
    }

    async fn migrate(&self, direction: Direction) -> anyhow::Result<String> {
        auth_service::migrate(&self.auth, direction).await
    }
}

fn main() -> ExitCode {
    platform::process::main::<Settings>()
}
