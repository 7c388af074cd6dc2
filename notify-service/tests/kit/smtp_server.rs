//! A mail server for tests: takes mails, and does wrong what the test says.

#![allow(
    dead_code,
    reason = "shared by unit and integration tests, which use different parts"
)]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use platform::Tasks;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::sync::CancellationToken;

/// A mail that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// The raw message.
    pub(crate) content: String,
}

impl Letter {
    /// Its Message-ID.
    pub(crate) fn message_id(&self) -> &str {
        let header = self
            .content
            .lines()
            .find_map(|line| line.strip_prefix("Message-ID: "));
        header.expect("a mail has a Message-ID")
    }
}

/// Where in the conversation the server asks its script what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Connect,
    Hello,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The first line of a mail.
    Content,
    /// The dot at the end of a mail.
    End,
}

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// What a good server does.
    Go,
    /// Answers that and does nothing.
    Say(&'static str),
    /// Closes the connection.
    HangUp,
    /// Answers nothing any more.
    Stall,
    /// At the end of a mail: takes it, and closes the connection before saying so.
    KeepAndHangUp,
}

/// How connections are encrypted.
#[derive(Clone, Default)]
pub(crate) enum ServerTls {
    #[default]
    None,
    StartTls(TlsAcceptor),
    Implicit(TlsAcceptor),
}

/// A certificate authority made for one test, and a server that it vouches for.
pub(crate) struct Authority {
    /// Its certificate.
    pub(crate) pem: String,
    /// For a server that is called `localhost`.
    pub(crate) acceptor: TlsAcceptor,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Self {
            pem: root.pem(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }
}

type Script = Box<dyn Fn(Stage, &str) -> Act + Send + Sync>;

#[derive(Default)]
struct Shared {
    tls: ServerTls,
    /// The only `AUTH` line that is let in; `None` lets everybody in.
    login: Option<&'static str>,
    script: Mutex<Option<Script>>,
    letters: Mutex<Vec<Letter>>,
    connections: AtomicUsize,
    open: Mutex<CancellationToken>,
}

impl Shared {
    fn ask(&self, stage: Stage, line: &str) -> Act {
        let script = self.script.lock().unwrap();
        script
            .as_ref()
            .map_or(Act::Go, |script| script(stage, line))
    }
}

/// A running mail server.
pub(crate) struct SmtpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Tasks,
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

impl SmtpServer {
    /// An open server that takes everything.
    pub(crate) async fn start() -> Self {
        Self::start_with(ServerTls::None, None).await
    }

    pub(crate) async fn start_with(tls: ServerTls, login: Option<&'static str>) -> Self {
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            shared: Arc::new(Shared {
                tls,
                login,
                ..Shared::default()
            }),
            tasks: Tasks::new(),
        };
        server.listen().await;
        server
    }

    async fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.tasks = Tasks::new();
        let open = self.tasks.token().child_token();
        *self.shared.open.lock().unwrap() = open;
        let (shared, tasks) = (Arc::clone(&self.shared), self.tasks.clone());
        self.tasks.spawn("smtp-server", async move {
            let token = tasks.token();
            loop {
                let accepted = tokio::select! {
                    () = token.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let (stream, _) = accepted.unwrap();
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let open = shared.open.lock().unwrap().clone();
                let session = serve(Arc::clone(&shared), stream);
                tasks.spawn("smtp-session", async move {
                    tokio::select! {
                        () = open.cancelled() => {}
                        // A client that breaks off ends its own session only.
                        _ = session => {}
                    }
                });
            }
        });
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What the server does from now on.
    pub(crate) fn script(&self, script: impl Fn(Stage, &str) -> Act + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Some(Box::new(script));
    }

    /// It does what a good server does again.
    pub(crate) fn behave(&self) {
        *self.shared.script.lock().unwrap() = None;
    }

    /// What has arrived so far.
    pub(crate) fn letters(&self) -> Vec<Letter> {
        self.shared.letters.lock().unwrap().clone()
    }

    /// Connections that were opened so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Closes every open connection, without a word, and takes new ones.
    pub(crate) fn close_connections(&self) {
        let token = self.tasks.token().child_token();
        let open = std::mem::replace(&mut *self.shared.open.lock().unwrap(), token);
        open.cancel();
    }

    /// Goes away.
    pub(crate) async fn stop(&mut self) {
        let left = self.tasks.shutdown(platform::test_kit::DEADLINE).await;
        assert!(left.is_empty(), "{left:?}");
    }

    /// Comes back under the same address.
    pub(crate) async fn start_again(&mut self) {
        self.listen().await;
    }
}

trait Wire: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Wire for T {}
type Stream = BufReader<Pin<Box<dyn Wire>>>;

/// A session that ends early; why does not matter.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

async fn say(stream: &mut Stream, text: &str) -> Result<(), Over> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    Ok(stream.flush().await?)
}

async fn line(stream: &mut Stream) -> Result<String, Over> {
    let mut bytes = Vec::new();
    if stream.read_until(b'\n', &mut bytes).await? == 0 {
        return Err(Over);
    }
    let line = String::from_utf8(bytes).map_err(|_| Over)?;
    assert!(line.ends_with("\r\n"), "a line ends with CR LF: {line:?}");
    Ok(line.trim_end_matches("\r\n").to_owned())
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) -> Result<(), Over> {
    stream.set_nodelay(true)?;
    let mut stream: Stream = match &shared.tls {
        ServerTls::Implicit(acceptor) => BufReader::new(Box::pin(acceptor.accept(stream).await?)),
        _ => BufReader::new(Box::pin(stream)),
    };
    let mut encrypted = matches!(shared.tls, ServerTls::Implicit(_));
    if go(&shared, &mut stream, Stage::Connect, "").await? {
        say(&mut stream, "220 test").await?;
    }
    let mut signed_in = shared.login.is_none();
    let (mut from, mut to) = (None, Vec::new());
    loop {
        let line = line(&mut stream).await?;
        let word = line.split([' ', ':']).next().unwrap().to_ascii_uppercase();
        let stage = match word.as_str() {
            "EHLO" | "HELO" => Stage::Hello,
            "STARTTLS" => Stage::StartTls,
            "AUTH" => Stage::Auth,
            "MAIL" => Stage::Mail,
            "RCPT" => Stage::Rcpt,
            "DATA" => Stage::Data,
            "RSET" => {
                (from, to) = (None, Vec::new());
                say(&mut stream, "250 forgotten").await?;
                continue;
            }
            "QUIT" => return say(&mut stream, "221 bye").await,
            _ => {
                say(&mut stream, "250 noted").await?;
                continue;
            }
        };
        if !go(&shared, &mut stream, stage, &line).await? {
            continue;
        }
        match stage {
            Stage::Hello => {
                let mut lines = vec!["250-test"];
                if matches!(shared.tls, ServerTls::StartTls(_)) && !encrypted {
                    lines.push("250-STARTTLS");
                }
                if shared.login.is_some() {
                    lines.push("250-AUTH PLAIN LOGIN");
                }
                lines.push("250 SIZE 1000000");
                say(&mut stream, &lines.join("\r\n")).await?;
            }
            Stage::StartTls => {
                let ServerTls::StartTls(acceptor) = &shared.tls else {
                    say(&mut stream, "502 no").await?;
                    continue;
                };
                say(&mut stream, "220 go ahead").await?;
                let inner = acceptor.accept(stream.into_inner()).await?;
                stream = BufReader::new(Box::pin(inner));
                encrypted = true;
            }
            Stage::Auth => {
                signed_in = shared.login.is_none_or(|login| login == line);
                let answer = if signed_in {
                    "235 welcome"
                } else {
                    "535 5.7.8 who?"
                };
                say(&mut stream, answer).await?;
            }
            Stage::Mail if !signed_in => say(&mut stream, "530 5.7.0 who?").await?,
            Stage::Mail if from.is_some() => say(&mut stream, "503 nested MAIL").await?,
            Stage::Mail => {
                from = Some(address(&line));
                say(&mut stream, "250 ok").await?;
            }
            Stage::Rcpt => {
                to.push(address(&line));
                say(&mut stream, "250 ok").await?;
            }
            _ => {
                say(&mut stream, "354 go on").await?;
                let content = content(&shared, &mut stream).await?;
                let letter = Letter {
                    from: from.take().unwrap_or_default(),
                    to: std::mem::take(&mut to),
                    content,
                };
                let act = shared.ask(Stage::End, &letter.content);
                if matches!(act, Act::Go | Act::KeepAndHangUp) {
                    shared.letters.lock().unwrap().push(letter);
                }
                match act {
                    Act::Go => say(&mut stream, "250 taken").await?,
                    Act::KeepAndHangUp => return Err(Over),
                    act => drop(perform(act, &mut stream).await?),
                }
            }
        }
    }
}

/// Whether to do what a good server does; else the script was followed.
async fn go(shared: &Shared, stream: &mut Stream, stage: Stage, line: &str) -> Result<bool, Over> {
    let act = shared.ask(stage, line);
    perform(act, stream).await
}

async fn perform(act: Act, stream: &mut Stream) -> Result<bool, Over> {
    match act {
        Act::Go => return Ok(true),
        Act::Say(text) => say(stream, text).await?,
        Act::HangUp | Act::KeepAndHangUp => return Err(Over),
        Act::Stall => std::future::pending().await,
    }
    Ok(false)
}

/// A message up to its dot, unstuffed.
async fn content(shared: &Shared, stream: &mut Stream) -> Result<String, Over> {
    let mut content = String::new();
    loop {
        let line = line(stream).await?;
        if content.is_empty() {
            go(shared, stream, Stage::Content, &line).await?;
        }
        if line == "." {
            return Ok(content);
        }
        assert!(line.is_ascii(), "no extension for more was offered: {line}");
        content += line.strip_prefix('.').unwrap_or(&line);
        content += "\r\n";
    }
}

fn address(line: &str) -> String {
    let start = line.find('<').map_or(0, |at| at + 1);
    let end = line.find('>').unwrap_or(line.len());
    line[start..end].to_owned()
}
