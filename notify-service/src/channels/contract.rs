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
