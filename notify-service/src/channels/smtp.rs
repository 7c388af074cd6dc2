//! Mails to a mail server, over connections that are kept for a while.
//!
//! The connections are kept here and not in lettre's pool, which takes back a connection whose sending was cut short by a
//! time-out: the next mail would then be written into the middle of the last one.

mod wire;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::Message;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as Sender, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Response, Severity};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use self::wire::{NoWire, Wire};
use super::{Channel, Mail, SendError, Transfer, message};
use crate::config::{MailConfig, SmtpTls};

/// As long as most servers wait for the next mail.
const KEEP: Duration = Duration::from_secs(30);
/// How long we say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Hands mails to a mail server.
pub(crate) struct SmtpChannel {
    wire: Wire,
    credentials: Option<Credentials>,
    hello: ClientId,
    /// For a connection and for each answer.
    patience: Duration,
    /// For the answer to a whole mail, after which it is the server's. Who gives up early here sends the mail twice, and
    /// so does who is ended while waiting; so this is shorter than `shutdown.grace_ms`.
    long_patience: Duration,
    /// A connection that was not used for this long is closed.
    keep: Duration,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

/// How far the conversation about a mail has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Authentication,
    Sender,
    Recipient,
    Data,
    Content,
}

/// What went wrong, and where.
struct Failure {
    stage: Stage,
    kind: FailureKind,
}

enum FailureKind {
    /// There is no connection.
    Wire(NoWire),
    Smtp(Error),
    /// The server said nothing in time.
    Silence,
    /// The server said something that makes no sense here.
    Nonsense(Response),
}

impl SmtpChannel {
    /// A channel to the server that the settings name. It connects when there is something to send.
    ///
    /// # Errors
    /// When the settings of TLS cannot be used.
    pub(crate) fn new(mail: &MailConfig) -> anyhow::Result<Self> {
        let smtp = &mail.smtp;
        if smtp.tls == SmtpTls::None && !smtp.is_local() {
            tracing::warn!(
                smtp.host,
                "mails leave the machine unencrypted (mail.smtp.tls)"
            );
        }
        let credentials = (!smtp.username.is_empty())
            .then(|| Credentials::new(smtp.username.clone(), smtp.password.reveal().to_owned()));
        let hello = if smtp.helo_name.is_empty() {
            mail.sender()?.email.domain().to_owned()
        } else {
            smtp.helo_name.clone()
        };
        Ok(Self {
            wire: Wire::new(smtp)?,
            credentials,
            hello: ClientId::Domain(hello),
            patience: Duration::from_millis(smtp.timeout_ms),
            long_patience: Duration::from_millis(mail.send_timeout_ms),
            keep: KEEP,
            permits: Semaphore::new(usize::try_from(smtp.max_connections)?),
            idle: Mutex::default(),
        })
    }

    /// A connection on which the server has taken the sender of the mail.
    async fn begin(&self, envelope: &Envelope) -> Result<AsyncSmtpConnection, Failure> {
        while let Some(mut connection) = self.take_idle() {
            match self.sender(&mut connection, envelope).await {
                Ok(()) => return Ok(connection),
                // The server has closed it meanwhile, or is about to. Nothing was sent yet.
                Err(failure) if failure.is_of_the_connection() => drop(connection),
                Err(failure) => return Err(self.refused(connection, failure).await),
            }
        }
        let mut connection = self.connect().await?;
        match self.sender(&mut connection, envelope).await {
            Ok(()) => Ok(connection),
            Err(failure) => Err(self.refused(connection, failure).await),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let connected = timeout(self.patience, self.wire.connect(&self.hello)).await;
        let wire = connected
            .map_err(|_| silence(Stage::Greeting))?
            .map_err(|error| Failure {
                stage: Stage::Greeting,
                kind: FailureKind::Wire(error),
            })?;
        let greeted = AsyncSmtpConnection::connect_with_transport(wire, &self.hello);
        let mut connection = self.step(Stage::Greeting, greeted).await?;
        if let Some(credentials) = &self.credentials {
            let auth = connection.auth(DEFAULT_MECHANISMS, credentials);
            self.step(Stage::Authentication, auth).await?;
        }
        Ok(connection)
    }

    async fn sender(
        &self,
        connection: &mut AsyncSmtpConnection,
        envelope: &Envelope,
    ) -> Result<(), Failure> {
        let sender = Sender::new(envelope.from().cloned(), Vec::new());
        let taken = self.step(Stage::Sender, connection.command(sender)).await?;
        expect(Stage::Sender, taken, Severity::PositiveCompletion)
    }

    async fn content(
        &self,
        connection: &mut AsyncSmtpConnection,
        envelope: &Envelope,
        content: &[u8],
    ) -> Result<(), Failure> {
        for recipient in envelope.to() {
            let command = connection.command(Rcpt::new(recipient.clone(), Vec::new()));
            let taken = self.step(Stage::Recipient, command).await?;
            expect(Stage::Recipient, taken, Severity::PositiveCompletion)?;
        }
        let go = self.step(Stage::Data, connection.command(Data)).await?;
        expect(Stage::Data, go, Severity::PositiveIntermediate)?;
        let sending = timeout(self.long_patience, connection.message(content));
        let sent = sending.await.map_err(|_| silence(Stage::Content))?;
        let taken = sent.map_err(|error| failure(Stage::Content, error))?;
        expect(Stage::Content, taken, Severity::PositiveCompletion)
    }

    async fn step<T>(
        &self,
        stage: Stage,
        step: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.patience, step).await {
            Ok(done) => done.map_err(|error| failure(stage, error)),
            Err(_) => Err(silence(stage)),
        }
    }

    /// Keeps a connection on which the server has refused something, if it is good for another mail.
    async fn refused(&self, mut connection: AsyncSmtpConnection, failure: Failure) -> Failure {
        if !failure.is_of_the_connection() && failure.stage != Stage::Greeting {
            let reset = self.step(Stage::Sender, connection.command(Rset)).await;
            if reset.is_ok() {
                self.keep(connection);
            }
        }
        failure
    }

    fn take_idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().map(|idle| idle.connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(Idle { connection, since });
    }
}

#[async_trait]
impl Channel for SmtpChannel {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let message = message(mail, Transfer::SevenBit)?;
        let (envelope, content) = (message.envelope(), Message::formatted(&message));
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|error| SendError::Transient(error.to_string()))?;
        let mut connection = self.begin(envelope).await.map_err(Failure::judge)?;
        // When this is cut short, the connection goes with it.
        match self.content(&mut connection, envelope, &content).await {
            Ok(()) => {
                self.keep(connection);
                Ok(())
            }
            Err(failure) => Err(self.refused(connection, failure).await.judge()),
        }
    }

    async fn rest(&self) {
        let stale: Vec<Idle> = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = idle
                .iter()
                .position(|idle| idle.since.elapsed() < self.keep);
            // In the order in which they were kept: the oldest first.
            let end = fresh.unwrap_or(idle.len());
            idle.drain(..end).collect()
        };
        let goodbyes = stale.into_iter().map(|mut idle| async move {
            // Whether it hears us does not matter.
            let _quit = idle.connection.quit().await.is_ok();
        });
        let _in_time = timeout(GOODBYE, futures::future::join_all(goodbyes)).await;
    }
}

fn failure(stage: Stage, error: Error) -> Failure {
    let kind = FailureKind::Smtp(error);
    Failure { stage, kind }
}

fn silence(stage: Stage) -> Failure {
    let kind = FailureKind::Silence;
    Failure { stage, kind }
}

/// lettre takes "go on" for an answer everywhere: a mail would count as sent that the server still waits for.
fn expect(stage: Stage, answer: Response, severity: Severity) -> Result<(), Failure> {
    if answer.code().severity == severity {
        return Ok(());
    }
    let kind = FailureKind::Nonsense(answer);
    Err(Failure { stage, kind })
}

impl Failure {
    fn code(&self) -> Option<u16> {
        match &self.kind {
            FailureKind::Wire(error) => error.code(),
            FailureKind::Smtp(error) => error.status().map(u16::from),
            FailureKind::Silence | FailureKind::Nonsense(_) => None,
        }
    }

    /// Whether the connection is of no use any more, as opposed to a mail that was refused on it.
    fn is_of_the_connection(&self) -> bool {
        self.code().is_none_or(|code| code == 421)
    }

    fn judge(self) -> SendError {
        let text = self.text();
        let ours_alone = matches!(
            self.stage,
            Stage::Greeting | Stage::Authentication | Stage::Sender
        );
        match (self.code(), &self.kind) {
            // It wants to know who we are, or that first.
            (Some(503 | 530 | 534 | 535 | 538), _) => SendError::Misconfigured(text),
            (Some(500..), _) if ours_alone => SendError::Misconfigured(text),
            // Too many recipients for now (RFC 5321, 4.5.3.1.10).
            (Some(552), _) if self.stage == Stage::Recipient => SendError::Transient(text),
            (Some(500..), _) => SendError::Permanent(text),
            (None, FailureKind::Wire(error)) if error.is_lasting() => {
                SendError::Misconfigured(text)
            }
            // There is no way of signing in that both know.
            (None, FailureKind::Smtp(error)) if error.is_client() => SendError::Misconfigured(text),
            _ => SendError::Transient(text),
        }
    }

    fn text(&self) -> String {
        let what = match &self.kind {
            FailureKind::Wire(error) => error.to_string(),
            FailureKind::Smtp(error) => error.to_string(),
            FailureKind::Silence => "no answer in time".to_owned(),
            FailureKind::Nonsense(answer) => format!("unexpected answer {}", answer.code()),
        };
        let stage = match self.stage {
            Stage::Greeting => "connecting",
            Stage::Authentication => "signing in",
            Stage::Sender => "the sender",
            Stage::Recipient => "the recipient",
            Stage::Data | Stage::Content => "the mail",
        };
        format!("{stage}: {what}")
    }
}

#[cfg(test)]
mod tests;
