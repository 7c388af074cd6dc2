//! Ways by which a mail leaves the house, behind one port.

use async_trait::async_trait;
use jiff::Timestamp;
use lettre::message::header::ContentType;
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use uuid::Uuid;

#[cfg(test)]
pub(crate) mod contract;
mod folder;
mod smtp;
#[cfg(test)]
#[path = "../../tests/kit/smtp_server.rs"]
pub(crate) mod smtp_server;

pub(crate) use folder::FolderChannel;
pub(crate) use smtp::SmtpChannel;

/// A mail, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    /// Stays the same when the mail is tried again, so that a channel can tell a repetition from a second mail.
    pub(crate) id: Uuid,
    pub(crate) from: Mailbox,
    /// Address of the recipient.
    pub(crate) to: String,
    /// Name of the recipient; may be empty.
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
    /// When the mail was asked for.
    pub(crate) date: Timestamp,
}

/// Why a channel did not take a mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// It may take it later.
    #[error("not now: {0}")]
    Transient(String),
    /// It takes no mail of ours before somebody has changed a setting, here or there.
    #[error("not as it is set up: {0}")]
    Misconfigured(String),
    /// It never will.
    #[error("refused: {0}")]
    Permanent(String),
}

/// Port: takes mails out of the house.
#[async_trait]
pub(crate) trait Channel: Send + Sync {
    /// Sends a mail. When it returns `Ok`, no crash of ours loses the mail any more. The same mail (by id) may come again
    /// after a crash between sending and noting it; where the channel can, it then replaces the first.
    async fn send(&self, mail: &Mail) -> Result<(), SendError>;

    /// Told when there is nothing to send: gives back what is held open and was not used for a while. Takes a second at
    /// most.
    async fn rest(&self) {}
}

/// How much of a message may be other than ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// Texts as they are.
    EightBit,
    /// Nothing, so that every mail server takes it.
    SevenBit,
}

/// The mail as an RFC 5322 message with a text and an HTML part.
pub(crate) fn message(mail: &Mail, transfer: Transfer) -> Result<Message, SendError> {
    let address: Address = mail
        .to
        .parse()
        .map_err(|error| SendError::Permanent(format!("the address cannot be used: {error}")))?;
    if !mail.to.is_ascii() {
        let text = "the address has characters that not every mail server takes".to_owned();
        return Err(SendError::Permanent(text));
    }
    let name = one_line(&mail.name);
    let to = Mailbox::new((!name.is_empty()).then_some(name), address);
    Message::builder()
        .message_id(Some(format!("<{}@{}>", mail.id, mail.from.email.domain())))
        .date(mail.date.into())
        .from(mail.from.clone())
        .to(to)
        .subject(one_line(&mail.subject))
        .multipart(
            MultiPart::alternative()
                .singlepart(part(ContentType::TEXT_PLAIN, &mail.text, transfer))
                .singlepart(part(ContentType::TEXT_HTML, &mail.html, transfer)),
        )
        .map_err(|error| SendError::Permanent(format!("the mail cannot be written: {error}")))
}

/// Longest line of a part that goes out as it is, in bytes, without its end (RFC 5322).
const LONGEST_LINE: usize = 998;

/// A part that goes out as it is where its lines are short enough, so that links stay whole in the raw message; lettre
/// by itself encodes lines of more than 76 characters.
fn part(content_type: ContentType, content: &str, transfer: Transfer) -> SinglePart {
    use lettre::message::header::ContentTransferEncoding::{EightBit, SevenBit};
    let lines: Vec<&str> = content.lines().collect();
    let fits = transfer == Transfer::EightBit || content.is_ascii();
    let plain = fits
        && lines
            .iter()
            .all(|line| line.len() <= LONGEST_LINE && !line.contains(['\0', '\r']));
    let body = if plain {
        let encoding = if content.is_ascii() {
            SevenBit
        } else {
            EightBit
        };
        Body::dangerous_pre_encoded((lines.join("\r\n") + "\r\n").into_bytes(), encoding)
    } else {
        Body::new(content.to_owned())
    };
    SinglePart::builder().content_type(content_type).body(body)
}

/// What stands in a header must not begin another one.
fn one_line(text: &str) -> String {
    text.split(char::is_control)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}
