mod receiver;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use mailparse::{MailHeaderMap, ParsedMail, parse_mail};
use tokio::time::{Instant, sleep};

use receiver::Receiver;

const POLL: Duration = Duration::from_millis(50);
/// No mail of the product is near this size.
const MAX_MAIL_BYTES: u64 = 1 << 20;
/// Tokens that are remembered; the oldest are forgotten.
const MOST_TOKENS: usize = 10_000;

/// Where the product's mails arrive: a folder, as on the embedded profile, or here, by SMTP.
#[derive(Debug)]
pub struct Mailbox {
    source: Source,
    tokens: Tokens,
}

#[derive(Debug)]
enum Source {
    Folder {
        folder: PathBuf,
        seen: HashSet<PathBuf>,
    },
    Server(Receiver),
}

/// Addresses and the tokens that were sent to them.
#[derive(Debug, Clone, Default)]
struct Tokens(Arc<Mutex<VecDeque<(String, String)>>>);

impl Tokens {
    /// Remembers what stands in a mail; whether it is a whole one.
    fn read(&self, mail: &[u8]) -> bool {
        let Some(mail) = parse_mail(mail)
            .ok()
            .filter(|mail| !text_of(mail).is_empty())
        else {
            return false;
        };
        if let (Some(to), Some(token)) = (recipient(&mail), token_in(&text_of(&mail))) {
            let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.push_back((to, token));
            let surplus = tokens.len().saturating_sub(MOST_TOKENS);
            tokens.drain(..surplus);
        }
        true
    }

    fn find(&self, address: &str) -> Option<String> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = tokens
            .iter()
            .find(|(to, _)| to.eq_ignore_ascii_case(address));
        found.map(|(_, token)| token.clone())
    }
}

impl Mailbox {
    /// A reader of a folder. It need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            source: Source::Folder {
                folder: folder.into(),
                seen: HashSet::new(),
            },
            tokens: Tokens::default(),
        }
    }

    /// Takes mails by SMTP at an address and port, from now until it is dropped.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub async fn listen(address: &str) -> anyhow::Result<Self> {
        let tokens = Tokens::default();
        let taken = tokens.clone();
        let take = move |mail: &[u8]| {
            let _whole = taken.read(mail);
        };
        Ok(Self {
            source: Source::Server(Receiver::listen(address, take).await?),
            tokens,
        })
    }

    /// Where it takes mails by SMTP, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.source {
            Source::Folder { .. } => None,
            Source::Server(receiver) => Some(receiver.address()),
        }
    }

    /// Waits for a mail to `address` with a link that carries `?token=…` and gives the token.
    ///
    /// # Errors
    /// When none has come by the deadline, or the folder cannot be read.
    pub async fn token_for(&mut self, address: &str, deadline: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + deadline;
        loop {
            self.read_new().await?;
            if let Some(token) = self.tokens.find(address) {
                return Ok(token);
            }
            if Instant::now() >= until {
                bail!("no mail to {address} has come {self} within {deadline:?}");
            }
            sleep(POLL).await;
        }
    }

    async fn read_new(&mut self) -> anyhow::Result<()> {
        let Source::Folder { folder, seen } = &mut self.source else {
            return Ok(());
        };
        let mut entries = match tokio::fs::read_dir(&*folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", folder.display()));
            }
        };
        while let Some(entry) = entries.next_entry().await? {
            let path = entry.path();
            let is_mail = path.extension().is_some_and(|extension| extension == "eml");
            if !is_mail || seen.contains(&path) {
                continue;
            }
            let fits = entry.metadata().await?.len() <= MAX_MAIL_BYTES;
            // A mail that is still being written does not parse in full: look again next time.
            if !fits || self.tokens.read(&tokio::fs::read(&path).await?) {
                seen.insert(path);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Folder { folder, .. } => write!(f, "to {}", folder.display()),
            Source::Server(receiver) => write!(f, "by SMTP to {}", receiver.address()),
        }
    }
}

fn recipient(mail: &ParsedMail<'_>) -> Option<String> {
    let header = mail.headers.get_first_header("To")?;
    let addresses = mailparse::addrparse_header(header).ok()?;
    addresses.extract_single_info().map(|info| info.addr)
}

/// The decoded text of every part.
fn text_of(mail: &ParsedMail<'_>) -> String {
    let mut text = String::new();
    if mail.subparts.is_empty() && mail.ctype.mimetype.starts_with("text/") {
        text.push_str(&mail.get_body().unwrap_or_default());
        text.push('\n');
    }
    mail.subparts
        .iter()
        .for_each(|part| text.push_str(&text_of(part)));
    text
}

fn token_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("?token=")?;
    let token: String = rest
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~'))
        .collect();
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "From: Coffer <coffer@localhost>\r\nTo: Asha <asha@example.com>\r\n\
        Subject: Confirm\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/alternative; boundary=\"b\"\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\n\
        Open http://localhost/verify?token=3Dabc=\r\n_DEF-1 to confirm.\r\n--b--\r\n";

    #[tokio::test]
    async fn a_token_is_read_from_a_quoted_printable_mail() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("1.eml"), MAIL).unwrap();
        let mut mailbox = Mailbox::new(folder.path());
        let token = mailbox
            .token_for("ASHA@example.com", Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(token, "abc_DEF-1");
    }

    #[tokio::test]
    async fn a_mail_that_never_comes_is_told_with_the_folder() {
        let mut mailbox = Mailbox::new("/nowhere/mail");
        let error = mailbox
            .token_for("a@example.com", Duration::ZERO)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("/nowhere/mail"), "{error}");
    }

    #[tokio::test]
    async fn a_token_is_read_from_a_mail_that_comes_by_smtp() {
        use tokio::io::AsyncWriteExt;
        let mut mailbox = Mailbox::listen("127.0.0.1:0").await.unwrap();
        let address = mailbox.address().unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let talk = format!(
            "EHLO me\r\nMAIL FROM:<coffer@localhost>\r\nRCPT TO:<asha@example.com>\r\nDATA\r\n{MAIL}.\r\n"
        );
        stream.write_all(talk.as_bytes()).await.unwrap();
        let token = mailbox.token_for("asha@example.com", Duration::from_secs(20));
        assert_eq!(token.await.unwrap(), "abc_DEF-1");
        let error = mailbox
            .token_for("b@example.com", Duration::ZERO)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told() {
        let first = Mailbox::listen("127.0.0.1:0").await.unwrap();
        let address = first.address().unwrap().to_string();
        let error = Mailbox::listen(&address).await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
    }
}
