use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use launcher::client::{Api, Mailbox};
use platform::database::DatabaseConfig;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell, RwLockReadGuard};
use tokio::time::timeout;

use crate::common::together;

/// Longest that starting or stopping everything may take, the installation of servers included.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(400);

/// Cheap passwords, and logs without colours.
const TEST_ENV: [(&str, &str); 3] = [
    ("COFFER_AUTH__PASSWORD_HASH__MEMORY_KIB", "64"),
    ("COFFER_AUTH__PASSWORD_HASH__ITERATIONS", "1"),
    ("NO_COLOR", "1"),
];

/// Several replicas of everything, behind nginx. Stopped when it is dropped.
pub(crate) struct Cluster {
    folder: TempDir,
    addresses: HashMap<String, String>,
    /// Those who share it leave the machine to nobody who wants it alone.
    _machine: Option<RwLockReadGuard<'static, ()>>,
}

impl Cluster {
    /// Two replicas of each service and two gateways that tests share as long as one of them runs.
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let machine = together().await;
        let collector = crate::trace::collector().await;
        let env = [("COFFER_TELEMETRY__OTLP_ENDPOINT", collector.as_str())];
        let mut cluster = Self::up(&env).await;
        cluster._machine = Some(machine);
        let cluster = Arc::new(cluster);
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// Starts two of everything with these settings.
    pub(crate) async fn up(env: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("coffer-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a folder");
        let programs = programs().await;
        let mut cluster = Self {
            folder,
            addresses: HashMap::new(),
            _machine: None,
        };
        let programs = programs.to_string_lossy();
        let args = [
            "--replicas",
            "2",
            "--gateways",
            "2",
            "--programs",
            &programs,
        ];
        let output = cluster.script("up", &args, env).await;
        println!("{}", String::from_utf8_lossy(&output.stdout));
        for file in ["coffer.env", "servers.env"] {
            let text = std::fs::read_to_string(cluster.dir().join(file)).expect("the script tells");
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            cluster
                .addresses
                .extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        cluster
    }

    /// The product behind its load balancer.
    pub(crate) fn api(&self) -> Api {
        self.api_of("COFFER_URL")
    }

    /// One of the two gateways, 1 or 2.
    pub(crate) fn gateway(&self, number: usize) -> Api {
        self.api_of(&format!("COFFER_GATEWAY_{number}"))
    }

    fn api_of(&self, name: &str) -> Api {
        Api::new(&self.addresses[name]).expect("a good address")
    }

    pub(crate) fn mail_dir(&self) -> PathBuf {
        self.dir().join("mail")
    }

    pub(crate) fn mailbox(&self) -> Mailbox {
        Mailbox::new(self.mail_dir())
    }

    /// What the SMS simulator was given, by all replicas.
    pub(crate) fn sms_journal(&self) -> PathBuf {
        self.dir().join("sms-simulator.jsonl")
    }

    /// The databases, by the service that keeps its state there.
    pub(crate) fn databases(&self) -> [(&'static str, DatabaseConfig); 4] {
        ["auth", "wallet", "notify", "scheduler"].map(|name| (name, self.database(name)))
    }

    fn database(&self, name: &str) -> DatabaseConfig {
        let server = &self.addresses["COFFER_TEST_POSTGRES_URL"];
        let (address, _) = server.rsplit_once('/').expect("a URL with a database");
        DatabaseConfig {
            url: format!("{address}/{name}"),
            ..DatabaseConfig::default()
        }
    }

    /// SIGKILL; of PostgreSQL its immediate shutdown.
    pub(crate) async fn crash(&self, name: &str) {
        self.script("crash", &["--name", name], &[]).await;
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(&self, name: &str) {
        self.script("stop", &["--name", name], &[]).await;
    }

    /// Starts again what has stopped; does not wait until it is ready.
    pub(crate) async fn start(&self, name: &str) {
        self.script("start", &["--name", name], &[]).await;
    }

    /// As [`Cluster::start`], and waits until it is ready.
    pub(crate) async fn start_and_wait(&self, name: &str) {
        self.script("start", &["--name", name, "--wait", "on"], &[])
            .await;
    }

    /// `coffer ledger verify --json`.
    pub(crate) async fn verify_ledger(&self) -> Output {
        let command = Command::new(env!("CARGO_BIN_EXE_coffer"))
            .args(["ledger", "verify", "--json"])
            .env("COFFER_WALLET__DATABASE__URL", self.database("wallet").url)
            .output();
        let output = timeout(SCRIPT_PATIENCE, command).await;
        output
            .expect("the command ends")
            .expect("the binary starts")
    }

    /// The end of what a process logged, for a failure message.
    pub(crate) fn log_tail(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.dir().join(name).join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    async fn script(&self, command: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
        let run = Command::new(script())
            .arg(command)
            .arg("--dir")
            .arg(self.dir())
            .args(args)
            .envs(TEST_ENV)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output();
        let output = timeout(SCRIPT_PATIENCE, run)
            .await
            .unwrap_or_else(|_| panic!("{command} {args:?} does not end"))
            .expect("the script starts");
        assert!(
            output.status.success(),
            "{command} {args:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let ended = std::process::Command::new(script())
            .arg("down")
            .arg("--dir")
            .arg(self.dir())
            .stdin(Stdio::null())
            .output();
        match ended {
            Ok(output) if output.status.success() => {}
            other => println!("the processes were not stopped: {other:?}"),
        }
    }
}

/// Where the programs are. Building this test has built `coffer` only, so the others are brought up to date.
async fn programs() -> PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async {
        let folder = Path::new(env!("CARGO_BIN_EXE_coffer"))
            .parent()
            .expect("a folder of programs");
        let mut command = Command::new(env!("CARGO"));
        command
            .args(["build", "--locked", "--workspace", "--bins"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        let built = command.status().await.expect("cargo starts");
        assert!(built.success(), "the programs do not build");
        folder.to_owned()
    };
    BUILT.get_or_init(|| build).await.clone()
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/local.sh")
}
