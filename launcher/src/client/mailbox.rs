use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use mailparse::{MailHeaderMap, ParsedMail, parse_mail};
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(50);
/// No mail of the product is near this size.
const MAX_MAIL_BYTES: u64 = 1 << 20;

/// The folder that the product's mails land in on the embedded profile.
#[derive(Debug)]
pub struct Mailbox {
    folder: PathBuf,
    seen: HashSet<PathBuf>,
    tokens: Vec<(String, String)>,
}

impl Mailbox {
    /// A reader of the folder. It need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            seen: HashSet::new(),
            tokens: Vec::new(),
        }
    }

    /// The folder that is read.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for a mail to `address` with a link that carries `?token=…` and gives the token.
    ///
    /// # Errors
    /// When none has come by the deadline, or the folder cannot be read.
    pub async fn token_for(&mut self, address: &str, deadline: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + deadline;
        loop {
            self.read_new().await?;
            let found = self
                .tokens
                .iter()
                .find(|(to, _)| to.eq_ignore_ascii_case(address));
            if let Some((_, token)) = found {
                return Ok(token.clone());
            }
            if Instant::now() >= until {
                let folder = self.folder.display();
                bail!("no mail to {address} has come to {folder} within {deadline:?}");
            }
            sleep(POLL).await;
        }
    }

    async fn read_new(&mut self) -> anyhow::Result<()> {
        let mut entries = match tokio::fs::read_dir(&self.folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", self.folder.display()));
            }
        };
        while let Some(entry) = entries.next_entry().await? {
            let path = entry.path();
            let is_mail = path.extension().is_some_and(|extension| extension == "eml");
            if !is_mail || self.seen.contains(&path) {
                continue;
            }
            if entry.metadata().await?.len() <= MAX_MAIL_BYTES {
                let bytes = tokio::fs::read(&path).await?;
                // A mail that is still being written does not parse in full: look again next time.
                let Some(mail) = parse_mail(&bytes)
                    .ok()
                    .filter(|mail| !text_of(mail).is_empty())
                else {
                    continue;
                };
                if let (Some(to), Some(token)) = (recipient(&mail), token_in(&text_of(&mail))) {
                    self.tokens.push((to, token));
                }
            }
            self.seen.insert(path);
        }
        Ok(())
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
}
