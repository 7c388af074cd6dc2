use std::path::{Path, PathBuf};
use std::sync::Arc;

use launcher::client::{Api, Mailbox};
use launcher::config::Config;
use launcher::up::{self, Running};
use tempfile::TempDir;
use tokio::sync::RwLockReadGuard;

use super::clock::ForwardClock;
use crate::common::together;

/// The whole product in this process, on a folder and port of its own.
pub(crate) struct Product {
    folder: TempDir,
    clock: Arc<ForwardClock>,
    running: Running,
    machine: RwLockReadGuard<'static, ()>,
}

impl Product {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_on(folder, Arc::default(), together().await).await
    }

    async fn start_on(
        folder: TempDir,
        clock: Arc<ForwardClock>,
        machine: RwLockReadGuard<'static, ()>,
    ) -> Self {
        let config = Self::config(folder.path());
        let running = up::start(config, Arc::clone(&clock) as _)
            .await
            .expect("the product starts");
        Self {
            folder,
            clock,
            running,
            machine,
        }
    }

    /// Settings for a test: cheap passwords, no rate limits.
    pub(crate) fn config(folder: &Path) -> Config {
        let mut config = Config {
            http_listen: "127.0.0.1:0".to_owned(),
            data_dir: folder.join("data"),
            ..Config::default()
        };
        config.gateway.rate_limit.enabled = false;
        config.auth.password_hash.memory_kib = 64;
        config.auth.password_hash.iterations = 1;
        config.rooted()
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(&self.running.url()).expect("a good address")
    }

    /// Where notify-service answers gRPC.
    pub(crate) fn notify(&self) -> http::Uri {
        self.running.notify().clone()
    }

    pub(crate) fn mail_dir(&self) -> PathBuf {
        self.running.config().mail_dir()
    }

    pub(crate) fn mailbox(&self) -> Mailbox {
        Mailbox::new(self.mail_dir())
    }

    pub(crate) fn clock(&self) -> Arc<ForwardClock> {
        Arc::clone(&self.clock)
    }

    /// Stops it and starts it again on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let Self {
            folder,
            clock,
            running,
            machine,
        } = self;
        running.stop().await;
        Self::start_on(folder, clock, machine).await
    }

    /// Stops it; every task must end by itself.
    pub(crate) async fn stop(self) {
        let left = self.running.stop().await;
        assert!(left.is_empty(), "did not end: {left:?}");
    }
}
