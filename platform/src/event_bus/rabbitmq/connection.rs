//! One connection that is kept up: it is opened again whenever it is lost, for as long as the process runs.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, ErrorKind, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::topology::Topology;
use crate::shutdown::Tasks;

/// First pause before a lost connection is opened again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before the next attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lived so long was sound.
const SOUND: Duration = Duration::from_secs(30);
/// How often the state is looked at, should no event tell of its change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after an error the state of the connection is settled.
const SETTLING: Duration = Duration::from_millis(5);
/// How long those who use the connection may go on when the process shuts down.
const LAST_USERS: Duration = Duration::from_secs(10);
/// How long closing may take.
pub(super) const CLOSING: Duration = Duration::from_secs(2);

/// What a connection is opened with.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) uri: AMQPUri,
    /// Name that the broker shows.
    pub(super) name: String,
    pub(super) timeout: Duration,
}

/// An open connection, and its socket.
pub(super) struct Line {
    pub(super) connection: Arc<Connection>,
    socket: Option<TcpStream>,
}

impl Line {
    /// Ends it at once, without a word to the broker that may not listen.
    pub(super) fn cut(&self) {
        cut(self.socket.as_ref());
    }
}

fn cut(socket: Option<&TcpStream>) {
    if let Some(socket) = socket {
        // It may have ended before.
        let _ended = socket.shutdown(Shutdown::Both).is_err();
    }
}

impl Dialler {
    pub(super) async fn dial(&self) -> anyhow::Result<Line> {
        let socket: Arc<Mutex<Option<TcpStream>>> = Arc::default();
        let (kept, limit) = (Arc::clone(&socket), self.timeout);
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.clone().into());
        let opening = Connection::connector(
            self.uri.clone(),
            lapin::runtime::default_runtime()?,
            async move |uri: AMQPUri, runtime| {
                let dialling = async {
                    let host = uri.authority.host.clone();
                    let address = runtime.to_socket_addrs((host.clone(), uri.authority.port));
                    let stream = AsyncTcpStream::connect(&runtime, address).await?;
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        let copy = plain.get_ref().as_fd().try_clone_to_owned()?;
                        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy.into());
                    }
                    match uri.scheme {
                        AMQPScheme::AMQP => Ok(stream),
                        AMQPScheme::AMQPS => {
                            let tls = OwnedTLSConfig::default();
                            stream.into_tls(&host, tls.as_ref()).await
                        }
                    }
                };
                let dialled = tokio::time::timeout(limit, dialling).await;
                Ok(dialled.unwrap_or_else(|late| Err(late.into()))?)
            },
            properties,
        );
        let opened = bounded(self.timeout, opening).await;
        let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        match opened.map(|opened| opened.context("the broker refused")) {
            Ok(Ok(connection)) => Ok(Line {
                connection: Arc::new(connection),
                socket,
            }),
            Ok(Err(error)) | Err(error) => {
                // Else a broker that says nothing would keep the socket and its thread.
                cut(socket.as_ref());
                Err(error)
            }
        }
    }
}

/// A connection as its users see it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    current: watch::Receiver<Option<Arc<Line>>>,
    users: TaskTracker,
}

impl Link {
    /// Keeps a connection up until `tasks` is cancelled and its users are done. With a topology, that is declared before
    /// anybody gets the connection.
    pub(super) fn start(dialler: Dialler, topology: Option<Arc<Topology>>, tasks: &Tasks) -> Self {
        let (sender, current) = watch::channel(None);
        let users = TaskTracker::new();
        let keeper = Keeper {
            dialler,
            topology,
            current: sender,
            users: users.clone(),
            token: tasks.token(),
        };
        let name = format!("rabbitmq {}", keeper.dialler.name);
        tasks.spawn_critical(name, keeper.run());
        Self { current, users }
    }

    /// The connection, where there is one.
    pub(super) fn current(&self) -> Option<Arc<Connection>> {
        let current = self.current.borrow().clone();
        let connection = current.map(|line| Arc::clone(&line.connection));
        connection.filter(|connection| connection.status().connected())
    }

    /// The connection, once there is one.
    pub(super) async fn connection(&self) -> Arc<Connection> {
        let mut current = self.current.clone();
        loop {
            if let Some(connection) = self.current() {
                return connection;
            }
            if current.changed().await.is_err() {
                // Nobody keeps it up any more: the process shuts down.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Keeps the connection open during shutdown for as long as the token lives.
    pub(super) fn enter(&self) -> TaskTrackerToken {
        self.users.token()
    }

    /// Ends the connection as when the process were killed.
    #[cfg(feature = "test-kit")]
    pub(super) fn cut(&self) {
        if let Some(line) = &*self.current.borrow() {
            line.cut();
        }
    }
}

struct Keeper {
    dialler: Dialler,
    topology: Option<Arc<Topology>>,
    current: watch::Sender<Option<Arc<Line>>>,
    users: TaskTracker,
    token: CancellationToken,
}

impl Keeper {
    async fn run(self) {
        let mut failures = 0_u32;
        while !self.token.is_cancelled() {
            let begun = Instant::now();
            let opened = tokio::select! {
                () = self.token.cancelled() => return,
                opened = self.open() => opened,
            };
            match opened {
                Ok(line) => {
                    if self.hold(line).await {
                        return;
                    }
                    if begun.elapsed() > SOUND {
                        failures = 0;
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        connection = self.dialler.name,
                        error = format!("{error:#}"),
                        "the broker cannot be reached"
                    );
                }
            }
            let pause = FIRST_PAUSE
                .saturating_mul(1 << failures.min(16))
                .min(LONGEST_PAUSE);
            failures = failures.saturating_add(1);
            tokio::select! {
                () = self.token.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))) => {}
            }
        }
    }

    async fn open(&self) -> anyhow::Result<Line> {
        let line = self.dialler.dial().await?;
        if let Some(topology) = &self.topology
            && let Err(error) = topology.declare(&line.connection).await
        {
            line.cut();
            return Err(error.context("exchanges and queues could not be declared"));
        }
        Ok(line)
    }

    /// Lends the connection out until it is lost, or for good until the process shuts down.
    async fn hold(&self, line: Line) -> bool {
        tracing::info!(connection = self.dialler.name, "connected to the broker");
        let line = Arc::new(line);
        self.current.send_replace(Some(Arc::clone(&line)));
        let reason = tokio::select! {
            reason = lost(&line.connection) => Some(reason),
            () = self.done() => None,
        };
        self.current.send_replace(None);
        let Some(reason) = reason else {
            let closing = line.connection.close(200, "shutdown".into());
            let closed = bounded(CLOSING, closing).await;
            if !matches!(closed, Ok(Ok(()))) {
                line.cut();
            }
            return true;
        };
        tracing::warn!(
            connection = self.dialler.name,
            reason,
            "the connection to the broker was lost"
        );
        line.cut();
        false
    }

    /// The process shuts down, and nobody uses the connection any more, or for too long.
    async fn done(&self) {
        self.token.cancelled().await;
        self.users.close();
        let _too_long = tokio::time::timeout(LAST_USERS, self.users.wait()).await;
    }
}

/// Ends when the connection has, with the reason.
async fn lost(connection: &Connection) -> String {
    let mut events = std::pin::pin!(connection.events_listener());
    let mut reason = "no reason told".to_owned();
    while connection.status().connected() {
        match tokio::time::timeout(LOOK_EVERY, events.next()).await {
            // It may be that of a channel only.
            Ok(Some(Event::Error(error))) => {
                reason = error.to_string();
                tokio::time::sleep(SETTLING).await;
            }
            Ok(Some(Event::ConnectionBlocked(reason))) => {
                tracing::warn!(reason, "the broker takes no messages for now");
            }
            Ok(Some(Event::ConnectionUnblocked)) => {
                tracing::info!("the broker takes messages again");
            }
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    reason
}

/// A step of talking to the broker, which must end in time.
pub(super) async fn bounded<F: Future>(limit: Duration, step: F) -> anyhow::Result<F::Output> {
    tokio::time::timeout(limit, step)
        .await
        .context("the broker did not answer in time")
}

/// A name of AMQP, which has at most 255 bytes.
pub(super) fn name(text: &str) -> anyhow::Result<ShortString> {
    Ok(ShortString::try_new(text)?)
}

/// Whether something exists with other properties than asked for.
pub(super) fn is_mismatch(error: &lapin::Error) -> bool {
    soft(error) == Some(&AMQPSoftError::PRECONDITIONFAILED)
}

/// Whether something that was asked for is not there.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    soft(error) == Some(&AMQPSoftError::NOTFOUND)
}

fn soft(error: &lapin::Error) -> Option<&AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}
