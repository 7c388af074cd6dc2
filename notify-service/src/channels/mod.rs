//! Ways by which a mail leaves the house, behind one port.

use async_trait::async_trait;
use jiff::Timestamp;
use lettre::message::header::ContentType;
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use uuid::Uuid;

mod folder;

pub(crate) use folder::FolderChannel;

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
}

/// The mail as an RFC 5322 message with a text and an HTML part.
pub(crate) fn message(mail: &Mail) -> Result<Message, SendError> {
    let address: Address = mail
        .to
        .parse()
        .map_err(|error| SendError::Permanent(format!("the address cannot be used: {error}")))?;
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
                .singlepart(part(ContentType::TEXT_PLAIN, &mail.text))
                .singlepart(part(ContentType::TEXT_HTML, &mail.html)),
        )
        .map_err(|error| SendError::Permanent(format!("the mail cannot be written: {error}")))
}

/// Longest line of a part that goes out as it is, in bytes, without its end (RFC 5322).
const LONGEST_LINE: usize = 998;

/// A part that goes out as it is where its lines are short enough, so that links stay whole in the raw message; lettre
/// by itself encodes lines of more than 76 characters.
fn part(content_type: ContentType, content: &str) -> SinglePart {
    use lettre::message::header::ContentTransferEncoding::{EightBit, SevenBit};
    let lines: Vec<&str> = content.lines().collect();
    let plain = lines
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

#[cfg(test)]
pub(crate) mod contract {
    //! What every channel must do.

    use super::*;

    /// A channel under test and what came out of its other end.
    #[async_trait]
    pub(crate) trait Harness {
        /// The channel.
        fn channel(&self) -> &dyn Channel;
        /// The raw messages that arrived, in any order.
        async fn arrived(&self) -> Vec<String>;
    }

    /// A mail that has all that is hard: other scripts, quotes, long lines.
    pub(crate) fn mail(id: u128) -> Mail {
        Mail {
            id: Uuid::from_u128(id),
            from: "Coffer <coffer@localhost>".parse().unwrap(),
            to: "asha@example.org".to_owned(),
            name: "Asha \"अशा\" O'Neil\r\nBcc: all@example.org".to_owned(),
            subject: "Bestätigen Sie\r\nBcc: all@example.org".to_owned(),
            text: "https://example.org/?token=abc_DEF-123\n".to_owned(),
            html: format!("<p>{}</p>\n", "long ".repeat(500)),
            date: Timestamp::from_second(1_700_000_000).unwrap(),
        }
    }

    /// Runs the suite.
    pub(crate) async fn holds(harness: &dyn Harness) {
        let channel = harness.channel();

        // What is sent arrives, once, as a well-formed message to its recipient.
        channel.send(&mail(1)).await.unwrap();
        let arrived = harness.arrived().await;
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        let head = arrived[0].split("\r\n\r\n").next().unwrap();
        assert!(head.contains("asha@example.org"), "{head}");
        assert!(head.contains(&Uuid::from_u128(1).to_string()), "{head}");
        assert!(head.contains("multipart/alternative"), "{head}");
        assert!(
            arrived[0].contains("?token=abc_DEF-123"),
            "links stay whole: {}",
            arrived[0]
        );
        // Nobody smuggles a header in.
        assert!(!head.lines().any(|line| line.starts_with("Bcc:")), "{head}");

        // Different mails do not hide each other.
        channel.send(&mail(2)).await.unwrap();
        assert_eq!(harness.arrived().await.len(), 2);

        // What can never be sent is refused for good.
        for to in [
            "",
            "nobody",
            "a@b@c",
            "a b@example.org",
            "a@example.org\r\nBcc: b@example.org",
        ] {
            let bad = Mail {
                to: to.to_owned(),
                ..mail(3)
            };
            let refused = channel.send(&bad).await;
            assert!(
                matches!(refused, Err(SendError::Permanent(_))),
                "{to:?}: {refused:?}"
            );
        }
        assert_eq!(harness.arrived().await.len(), 2);
    }
}
