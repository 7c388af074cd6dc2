use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use launcher::client::Api;
use rand::RngExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::TEST_ENV;
use crate::common::{PATIENCE, eventually};

/// Below the range from which the system takes ports for outgoing connections: while the product is down,
/// none of the clients that knock may be given its port, or reach itself on it.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// The real binary on a data folder and port of its own, to be killed and started again.
pub(crate) struct Process {
    listen: SocketAddr,
    data: PathBuf,
    env: Vec<(String, String)>,
    child: Option<Child>,
}

impl Process {
    /// Prepares, but does not start.
    pub(crate) fn new(data: &Path, env: &[(&str, &str)]) -> Self {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Self {
            listen: free_port(),
            data: data.to_owned(),
            env,
            child: None,
        }
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(&format!("http://{}", self.listen)).expect("a good address")
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Starts the product and waits until it is ready.
    pub(crate) async fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = self.log();
        let mut child = self
            .command(&["up"])
            .stdout(Stdio::from(log.try_clone().expect("the log can be shared")))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let api = self.api();
        eventually("the product is ready", PATIENCE, || {
            let ended = child.try_wait().expect("it can be asked");
            assert!(
                ended.is_none(),
                "the product ended with {ended:?}:\n{}",
                self.log_tail()
            );
            let api = api.clone();
            async move { api.ready().await.ok() }
        })
        .await;
        self.child = Some(child);
    }

    /// SIGKILL: no destructor, no flush, no goodbye.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("the process can be killed");
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let id = child.id().expect("it runs").to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .await
            .expect("kill runs");
        assert!(sent.success(), "SIGTERM was not sent");
        let ended = timeout(Duration::from_secs(20), child.wait()).await;
        ended
            .expect("it stops within its grace period")
            .expect("it can be waited for")
    }

    /// Runs another command of the binary on the same data to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Output {
        let output = timeout(Duration::from_secs(60), self.command(args).output()).await;
        output
            .expect("the command ends")
            .expect("the binary starts")
    }

    /// The end of what the product logged, for a failure message.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer"));
        command
            .args(args)
            .envs(TEST_ENV)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("COFFER_HTTP_LISTEN", self.listen.to_string())
            .env("COFFER_DATA_DIR", &self.data)
            .stdin(Stdio::null());
        command
    }

    fn log_path(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    fn log(&self) -> File {
        let mut options = OpenOptions::new();
        options
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log can be written")
    }
}

fn free_port() -> SocketAddr {
    (0..200)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, rand::rng().random_range(PORTS))))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("one of 200 ports is free")
}
