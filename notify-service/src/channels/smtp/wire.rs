//! A connection to a mail server, encrypted or not, up to where SMTP begins anew.
//!
//! lettre speaks SMTP on it. Connecting is done here, because small packets must leave at once (lettre writes the end of a
//! mail by itself, which the machine would hold back until the server has acknowledged the rest), and because what
//! somebody in between sent before TLS began must not be taken for what the server says in it.

use std::fmt;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use lettre::transport::smtp::client::AsyncTokioStream;
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Category, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{SmtpConfig, SmtpTls, roots};

/// Longest answer that is read before TLS, in bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

/// Where a mail server is and how it is talked to.
pub(super) struct Wire {
    host: String,
    port: u16,
    tls: Option<Tls>,
}

struct Tls {
    /// Whether the server is asked for it first.
    asked_for: bool,
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Why there is no connection.
pub(super) enum NoWire {
    Io(io::Error),
    /// The server has said no.
    Refused(Response),
    /// The server does not offer STARTTLS, or talks nonsense.
    Unfit(&'static str),
}

impl From<io::Error> for NoWire {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Wire {
    pub(super) fn new(smtp: &SmtpConfig) -> anyhow::Result<Self> {
        let tls = match smtp.tls {
            SmtpTls::None => None,
            SmtpTls::Starttls | SmtpTls::Implicit => Some(Tls {
                asked_for: smtp.tls == SmtpTls::Starttls,
                connector: TlsConnector::from(Arc::new(client_config(smtp)?)),
                name: ServerName::try_from(smtp.host.clone()).context("host")?,
            }),
        };
        Ok(Self {
            host: smtp.host.clone(),
            port: smtp.port,
            tls,
        })
    }

    /// A connection on which the server greets.
    pub(super) async fn connect(
        &self,
        hello: &ClientId,
    ) -> Result<Box<dyn AsyncTokioStream>, NoWire> {
        let mut tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let mut greeting: &[u8] = b"";
        if tls.asked_for {
            ask_for_tls(&mut tcp, hello).await?;
            // After STARTTLS the server does not greet again.
            greeting = b"220 encrypted\r\n";
        }
        let inner = tls.connector.connect(tls.name.clone(), tcp).await?;
        Ok(Box::new(Encrypted {
            greeting: Cursor::new(greeting),
            inner,
        }))
    }
}

fn client_config(smtp: &SmtpConfig) -> anyhow::Result<ClientConfig> {
    let mut trusted = RootCertStore::empty();
    let machine = rustls_native_certs::load_native_certs();
    trusted.add_parsable_certificates(machine.certs);
    let extra = roots(&smtp.ca_file).map_err(|problem| anyhow::anyhow!("ca_file {problem}"))?;
    for certificate in CertificateDer::pem_slice_iter(&extra) {
        let certificate = certificate.context("ca_file")?;
        trusted.add(certificate).context("ca_file")?;
    }
    anyhow::ensure!(
        !trusted.is_empty(),
        "no root certificate is trusted: the machine has none and ca_file is empty"
    );
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth())
}

/// The part before TLS of STARTTLS (RFC 3207).
async fn ask_for_tls(tcp: &mut TcpStream, hello: &ClientId) -> Result<(), NoWire> {
    positive(answer(tcp).await?)?;
    tcp.write_all(format!("EHLO {hello}\r\n").as_bytes())
        .await?;
    let offers = positive(answer(tcp).await?)?;
    let offered = offers
        .message()
        .any(|line| line.trim().eq_ignore_ascii_case("STARTTLS"));
    if !offered {
        return Err(NoWire::Unfit("the server does not offer STARTTLS"));
    }
    tcp.write_all(b"STARTTLS\r\n").await?;
    positive(answer(tcp).await?)?;
    Ok(())
}

fn positive(answer: Response) -> Result<Response, NoWire> {
    // 220 greets and begins TLS, 250 answers EHLO.
    let category = answer.code().category;
    let fits = matches!(category, Category::Connections | Category::MailSystem);
    match answer.is_positive() && fits {
        true => Ok(answer),
        false => Err(NoWire::Refused(answer)),
    }
}

/// An answer, and not a byte beyond it.
async fn answer(tcp: &mut TcpStream) -> Result<Response, NoWire> {
    const NO_SMTP: NoWire = NoWire::Unfit("the server does not speak SMTP");
    let (mut text, mut start) = (Vec::new(), 0);
    while text.len() < LONGEST_ANSWER {
        text.push(tcp.read_u8().await?);
        if !text.ends_with(b"\n") {
            continue;
        }
        // The last line has a space after its code, the others a hyphen.
        if text.get(start + 3) != Some(&b'-') {
            let text = String::from_utf8_lossy(&text);
            return text.parse().map_err(|_| NO_SMTP);
        }
        start = text.len();
    }
    Err(NO_SMTP)
}

/// A connection in TLS, with a greeting that the server does not send itself.
#[derive(Debug)]
struct Encrypted {
    greeting: Cursor<&'static [u8]>,
    inner: TlsStream<TcpStream>,
}

impl AsyncTokioStream for Encrypted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.get_ref().0.peer_addr()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let greeted = Pin::new(&mut self.greeting).poll_read(context, buffer);
        if buffer.filled().len() > before || greeted.is_pending() {
            return greeted;
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl fmt::Display for NoWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Refused(answer) => {
                write!(f, "{}", answer.code())?;
                answer.message().try_for_each(|line| write!(f, " {line}"))
            }
            Self::Unfit(why) => f.write_str(why),
        }
    }
}

impl NoWire {
    /// The code with which the server said no.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(answer) => Some(answer.code().into()),
            Self::Io(_) | Self::Unfit(_) => None,
        }
    }

    /// Whether no patience helps: TLS failed, because of a certificate or because there is no TLS at the other end.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Io(error) => error
                .get_ref()
                .is_some_and(|inner| inner.is::<rustls::Error>()),
            Self::Refused(_) => false,
            Self::Unfit(_) => true,
        }
    }
}
