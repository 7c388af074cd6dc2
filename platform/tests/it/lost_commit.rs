//! The connection to a server breaks at COMMIT, which a proxy between the two sees to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use platform::database::{Database, DatabaseConfig};
use platform::idempotency::RequestKey;
use platform::test_kit::TestPlatform;
use platform::work::{Begun, Work};
use platform::{Error, Kind, Tasks};
use proto::identity::v1::{EmailVerified, VerifyEmailRequest};
use sea_orm::DbBackend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::work::Tables;

/// What the proxy does to the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u8)]
enum Fault {
    /// Lets it through.
    None,
    /// Keeps it from the server and hangs up on both.
    Before,
    /// Hands it to the server, keeps the answer to itself and hangs up on the client.
    After,
    /// As `Before`, and lets nobody in from then on.
    BeforeAndAway,
}

struct Proxy {
    next: Arc<AtomicU8>,
    address: String,
    _tasks: Tasks,
}

impl Proxy {
    /// Stands before `server`, an address with a port.
    async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tasks, next) = (Tasks::new(), Arc::new(AtomicU8::new(0)));
        let (inner, faults) = (tasks.clone(), next.clone());
        tasks.spawn("proxy", async move {
            while let Ok((client, _)) = listener.accept().await {
                if faults.load(Ordering::SeqCst) != Fault::BeforeAndAway as u8 {
                    inner.spawn("connection", carry(client, server.clone(), faults.clone()));
                }
            }
        });
        Self {
            next,
            address,
            _tasks: tasks,
        }
    }

    fn meet(&self, fault: Fault) {
        self.next.store(fault as u8, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, server: String, next: Arc<AtomicU8>) {
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            n = client.read(&mut asked) => {
                let Ok(n @ 1..) = n else { return };
                let is_commit = asked[..n].windows(6).any(|text| text == b"COMMIT");
                let fault = next.load(Ordering::SeqCst);
                if is_commit && fault != Fault::None as u8 {
                    if fault == Fault::After as u8 {
                        server.write_all(&asked[..n]).await.unwrap();
                        assert!(server.read(&mut answered).await.unwrap() > 0);
                    }
                    if fault != Fault::BeforeAndAway as u8 {
                        next.store(Fault::None as u8, Ordering::SeqCst);
                    }
                    return;
                }
                if server.write_all(&asked[..n]).await.is_err() { return }
            }
            n = server.read(&mut answered) => {
                let Ok(n @ 1..) = n else { return };
                if client.write_all(&answered[..n]).await.is_err() { return }
            }
        }
    }
}

/// Work through a proxy; says so and gives `None` where there is no server, because a file has no connection that could break.
#[expect(
    clippy::print_stdout,
    reason = "whoever reads the tests' output learns what was left out"
)]
async fn scene() -> Option<(TestPlatform, Proxy, Work)> {
    let platform = TestPlatform::start().await;
    let direct = platform.database::<Tables>("work").await;
    if direct.backend() != DbBackend::Postgres {
        println!("left out: needs a PostgreSQL server, named by COFFER_TEST_POSTGRES_URL");
        return None;
    }
    let url = platform.database_url("work");
    let (head, tail) = url.split_once('@').unwrap();
    let (server, rest) = tail.split_once('/').unwrap();
    let proxy = Proxy::before(server.to_owned()).await;
    let config = DatabaseConfig {
        url: format!("{head}@{}/{rest}", proxy.address),
        acquire_timeout_ms: 1_000,
        ..DatabaseConfig::default()
    };
    let db = Database::connect(&config).await.unwrap();
    let work = Work::new("test", db, platform.clock());
    Some((platform, proxy, work))
}

fn key(name: &str) -> RequestKey {
    let request = VerifyEmailRequest::default();
    RequestKey::parse(Uuid::nil(), "Test", name, &request).unwrap()
}

/// Does the work of a key; tells whether it had been done before.
async fn once(work: &Work, name: &str) -> Result<bool, Error> {
    match work.begin_once(&key(name)).await? {
        Begun::Replayed(answer) => answer.map(|_| true),
        Begun::Fresh(mut unit) => {
            unit.emit("x", &EmailVerified::default());
            unit.store_answer(&Ok(name.as_bytes().to_vec())).await?;
            unit.commit().await.map(|()| false)
        }
    }
}

async fn facts(work: &Work) -> u64 {
    platform::outbox::unsent(work.db().reader()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_known_by_its_key() {
    let Some((_platform, proxy, work)) = scene().await else {
        return;
    };
    proxy.meet(Fault::After);
    assert!(!once(&work, "k").await.unwrap(), "done, and told as such");
    assert_eq!(facts(&work).await, 1);
    assert!(once(&work, "k").await.unwrap());
    assert_eq!(facts(&work).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_arrived_is_refused_as_not_done() {
    let Some((_platform, proxy, work)) = scene().await else {
        return;
    };
    proxy.meet(Fault::Before);
    let error = once(&work, "k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::Unavailable, "database_unavailable")
    );
    assert_eq!(facts(&work).await, 0);
    assert!(!once(&work, "k").await.unwrap());
    assert_eq!(facts(&work).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_after_which_nobody_can_be_asked_leaves_an_open_outcome() {
    let Some((_platform, proxy, work)) = scene().await else {
        return;
    };
    proxy.meet(Fault::BeforeAndAway);
    let error = once(&work, "k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::Unavailable, "outcome_unknown")
    );
    assert!(error.retry_after().is_some());
    proxy.meet(Fault::None);
    assert!(!once(&work, "k").await.unwrap());
    assert_eq!(facts(&work).await, 1);
}
