//! Money as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use platform::database::Direction;
use platform::process::{Needs, Program, Stage};
use wallet_service::WalletConfig;

platform::service_settings! {
    /// Money.
    wallet: WalletConfig,
    wallet_service::NAME,
    Needs { auth: true, redis: false }
}

impl Program for Settings {
    const NAME: &'static str = wallet_service::NAME;

    async fn start(self, stage: &Stage) -> anyhow::Result<SocketAddr> {
        let handles = self.surroundings().open(stage)?;
        let (listener, address) = self.surroundings().listen().await?;
        wallet_service::run(self.wallet, listener, handles).await?;
        Ok(address)
    }

    async fn migrate(&self, direction: Direction) -> anyhow::Result<String> {
        wallet_service::migrate(&self.wallet, direction).await
    }

    async fn redrive(self, stage: &Stage) -> anyhow::Result<u64> {
        let handles = self.surroundings().open(stage)?;
        wallet_service::redrive(&self.wallet, &handles).await
    }
}

fn main() -> ExitCode {
    platform::process::main::<Settings>()
}
