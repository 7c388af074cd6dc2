//! The SMTP channel against a mail server that does right, and wrong.

use platform::test_kit::{DEADLINE, eventually};

use super::super::contract::{self, Harness, mail};
use super::super::smtp_server::{Act, Authority, ServerTls, SmtpServer, Stage};
use super::*;
use crate::config::{MailChannel, SmtpConfig};

/// `AUTH PLAIN` of the user `coffer` with the password `secret`.
const LOGIN: &str = "AUTH PLAIN AGNvZmZlcgBzZWNyZXQ=";

struct Server {
    server: SmtpServer,
    channel: SmtpChannel,
}

#[async_trait]
impl Harness for Server {
    fn channel(&self) -> &dyn Channel {
        &self.channel
    }

    async fn arrived(&self) -> Vec<String> {
        let letters = self.server.letters();
        letters.into_iter().map(|letter| letter.content).collect()
    }
}

fn settings(server: &SmtpServer) -> MailConfig {
    MailConfig {
        channel: MailChannel::Smtp,
        from: "Coffer <coffer@example.com>".to_owned(),
        send_timeout_ms: 10_000,
        smtp: SmtpConfig {
            host: "localhost".to_owned(),
            port: server.port(),
            tls: SmtpTls::None,
            timeout_ms: 10_000,
            ..SmtpConfig::default()
        },
        ..MailConfig::default()
    }
}

impl Server {
    async fn start() -> Self {
        Self::with(SmtpServer::start().await, |_| {})
    }

    fn with(server: SmtpServer, change: impl FnOnce(&mut MailConfig)) -> Self {
        let mut settings = settings(&server);
        change(&mut settings);
        let channel = SmtpChannel::new(&settings).unwrap();
        Self { server, channel }
    }

    async fn send(&self, id: u128) -> Result<(), SendError> {
        self.channel.send(&mail(id)).await
    }

    fn arrived(&self) -> usize {
        self.server.letters().len()
    }
}

fn is_transient(sent: &Result<(), SendError>) -> bool {
    matches!(sent, Err(SendError::Transient(_)))
}

#[tokio::test]
async fn a_mail_server_is_a_channel() {
    let server = Server::start().await;
    contract::holds(&server).await;
    let letter = &server.server.letters()[0];
    assert_eq!(letter.to, ["asha@example.org"]);
    assert_eq!(letter.from, "coffer@localhost");
    assert_eq!(server.server.connections(), 1, "connections are used again");
}

#[tokio::test]
async fn it_is_one_over_tls_too() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, &authority.pem).unwrap();
    let acceptor = authority.acceptor;
    for (mode, tls) in [
        (SmtpTls::Starttls, ServerTls::StartTls(acceptor.clone())),
        (SmtpTls::Implicit, ServerTls::Implicit(acceptor.clone())),
    ] {
        let server = SmtpServer::start_with(tls, Some(LOGIN)).await;
        let server = Server::with(server, |mail| {
            mail.smtp.tls = mode;
            mail.smtp.ca_file = ca_file.clone();
            mail.smtp.username = "coffer".to_owned();
            mail.smtp.password = "secret".into();
        });
        contract::holds(&server).await;
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_not_talked_to() {
    let acceptor = Authority::new().acceptor;
    for (mode, tls) in [
        (SmtpTls::Starttls, ServerTls::StartTls(acceptor.clone())),
        (SmtpTls::Implicit, ServerTls::Implicit(acceptor.clone())),
        // Neither is a server without TLS.
        (SmtpTls::Starttls, ServerTls::None),
        (SmtpTls::Implicit, ServerTls::None),
    ] {
        let server = SmtpServer::start_with(tls, None).await;
        let server = Server::with(server, |mail| mail.smtp.tls = mode);
        let refused = server.send(1).await;
        assert!(
            matches!(refused, Err(SendError::Misconfigured(_))),
            "{mode:?}: {refused:?}"
        );
        assert_eq!(server.arrived(), 0);
    }
}

#[tokio::test]
async fn what_comes_before_tls_is_not_taken_for_what_comes_in_it() {
    let acceptor = Authority::new().acceptor;
    let server = SmtpServer::start_with(ServerTls::StartTls(acceptor), None).await;
    let server = Server::with(server, |mail| mail.smtp.tls = SmtpTls::Starttls);
    server.server.script(|stage, _| match stage {
        Stage::StartTls => Act::Say("220 go ahead\r\n250-test\r\n250 AUTH PLAIN"),
        _ => Act::Go,
    });
    let refused = server.send(1).await;
    assert!(
        matches!(refused, Err(SendError::Misconfigured(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_password_that_is_wrong_or_missing_is_loud_and_not_the_mails_fault() {
    for username in ["coffer", ""] {
        let server = SmtpServer::start_with(ServerTls::None, Some(LOGIN)).await;
        let server = Server::with(server, |mail| {
            mail.smtp.username = username.to_owned();
            mail.smtp.password = "wrong".into();
        });
        let refused = server.send(1).await;
        let Err(SendError::Misconfigured(text)) = &refused else {
            panic!("{refused:?}");
        };
        assert!(text.contains("53"), "{text}");
        assert!(!text.contains("wrong"), "{text}");
    }
}

#[tokio::test]
async fn a_recipient_who_is_refused_is_refused_for_good_and_nobody_else_is() {
    let server = Server::start().await;
    server.server.script(|stage, line| match stage {
        Stage::Rcpt if line.contains("nobody@") => Act::Say("550-5.1.1 not\r\n550 5.1.1 here"),
        Stage::Rcpt if line.contains("full@") => Act::Say("452 4.2.2 full"),
        _ => Act::Go,
    });
    let to = |to: &str| Mail {
        to: to.to_owned(),
        ..mail(1)
    };
    let refused = server.channel.send(&to("nobody@example.org")).await;
    let Err(SendError::Permanent(text)) = &refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("550") && text.contains("here"), "{text}");
    assert!(is_transient(
        &server.channel.send(&to("full@example.org")).await
    ));
    server.send(2).await.unwrap();
    assert_eq!(server.arrived(), 1);
    assert_eq!(
        server.server.connections(),
        1,
        "a refusal ends no connection"
    );
}

#[tokio::test]
async fn a_mail_that_is_refused_after_it_was_read_is_judged_by_the_answer() {
    let server = Server::start().await;
    for (answer, permanent) in [("554 5.6.0 no", true), ("451 4.3.0 later", false)] {
        server.server.script(move |stage, _| match stage {
            Stage::End => Act::Say(answer),
            _ => Act::Go,
        });
        let refused = server.send(1).await;
        assert_eq!(matches!(refused, Err(SendError::Permanent(_))), permanent);
        assert_eq!(is_transient(&refused), !permanent, "{refused:?}");
    }
    server.server.behave();
    server.send(2).await.unwrap();
    assert_eq!(server.arrived(), 1);
}

#[tokio::test]
async fn a_server_that_takes_nothing_from_us_is_loud_and_the_mail_stays() {
    for (at, answer) in [
        (Stage::Connect, "554 go away"),
        (Stage::Hello, "550 who?"),
        (Stage::Mail, "553 5.7.1 not your address"),
        (Stage::Rcpt, "530 5.7.0 sign in first"),
    ] {
        let server = Server::start().await;
        server.server.script(move |stage, _| match stage {
            stage if stage == at => Act::Say(answer),
            _ => Act::Go,
        });
        let refused = server.send(1).await;
        assert!(
            matches!(refused, Err(SendError::Misconfigured(_))),
            "{at:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_at_any_moment_is_tried_again_later() {
    for at in [
        Stage::Connect,
        Stage::Hello,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Content,
        Stage::End,
    ] {
        let server = Server::start().await;
        server.server.script(move |stage, _| match stage {
            stage if stage == at => Act::HangUp,
            _ => Act::Go,
        });
        let lost = server.send(1).await;
        assert!(is_transient(&lost), "{at:?}: {lost:?}");
        assert_eq!(server.arrived(), 0);
        server.server.behave();
        server.send(1).await.unwrap();
        assert_eq!(server.arrived(), 1, "{at:?}");
    }
}

#[tokio::test]
async fn a_mail_whose_receipt_is_lost_comes_again_under_the_same_id() {
    let server = Server::start().await;
    server.server.script(|stage, _| match stage {
        Stage::End => Act::KeepAndHangUp,
        _ => Act::Go,
    });
    assert!(is_transient(&server.send(1).await));
    server.server.behave();
    server.send(1).await.unwrap();
    let letters = server.server.letters();
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].message_id(), letters[1].message_id());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_and_its_connection_not_used_again() {
    for at in [Stage::Connect, Stage::Rcpt, Stage::End] {
        let server = Server::with(SmtpServer::start().await, |mail| {
            mail.smtp.timeout_ms = 100;
            mail.send_timeout_ms = 100;
        });
        server.server.script(move |stage, _| match stage {
            stage if stage == at => Act::Stall,
            _ => Act::Go,
        });
        assert!(is_transient(&server.send(1).await), "{at:?}");
        server.server.behave();
        eventually(DEADLINE, || async { server.send(2).await.is_ok() }).await;
        let letters = server.server.letters();
        assert_eq!(letters.len(), 1, "{at:?}");
        assert!(letters[0].message_id().contains(&mail(2).id.to_string()));
    }
}

#[tokio::test]
async fn sending_that_is_cut_short_leaves_nothing_in_the_next_mail() {
    let server = Server::start().await;
    server.send(1).await.unwrap();
    for at in [Stage::Rcpt, Stage::Data, Stage::Content, Stage::End] {
        server.server.script(move |stage, _| match stage {
            stage if stage == at => Act::Stall,
            _ => Act::Go,
        });
        let cut = tokio::time::timeout(Duration::from_millis(100), server.send(2)).await;
        assert!(cut.is_err(), "{at:?}");
        server.server.behave();
        server.send(3).await.unwrap();
        let letters = server.server.letters();
        let last = letters.last().unwrap();
        assert!(
            last.message_id().contains(&mail(3).id.to_string()),
            "{at:?}"
        );
        assert_eq!(last.content.matches("Message-ID").count(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_costs_no_mail() {
    let server = Server::start().await;
    server.send(1).await.unwrap();
    server.server.close_connections();
    server.send(2).await.unwrap();
    // Some say so before.
    let told = std::sync::atomic::AtomicBool::new(false);
    server.server.script(move |stage, _| match stage {
        Stage::Mail if !told.swap(true, std::sync::atomic::Ordering::Relaxed) => {
            Act::Say("421 4.4.2 idle for too long")
        }
        _ => Act::Go,
    });
    server.send(3).await.unwrap();
    assert_eq!(server.arrived(), 3);
    assert_eq!(server.server.connections(), 3);
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_found_again() {
    let mut server = Server::start().await;
    server.send(1).await.unwrap();
    server.server.stop().await;
    assert!(is_transient(&server.send(2).await));
    server.server.start_again().await;
    server.send(2).await.unwrap();
    assert_eq!(server.arrived(), 2);
}

#[tokio::test]
async fn no_more_connections_are_opened_than_allowed() {
    let server = Server::with(SmtpServer::start().await, |mail| {
        mail.smtp.max_connections = 3;
    });
    let sent = (0..60).map(|id| server.send(id));
    let sent = futures::future::join_all(sent).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    assert_eq!(server.arrived(), 60);
    assert!(server.server.connections() <= 3);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_no_receipt() {
    for (at, answer) in [
        (Stage::Data, "250 and now?"),
        (Stage::End, "354 go on"),
        (Stage::Rcpt, "what?"),
    ] {
        let server = Server::start().await;
        server.server.script(move |stage, _| match stage {
            stage if stage == at => Act::Say(answer),
            _ => Act::Go,
        });
        let sent = server.send(1).await;
        assert!(is_transient(&sent), "{at:?}: {sent:?}");
    }
}

#[tokio::test]
async fn lines_that_begin_with_a_dot_arrive_as_they_are() {
    let server = Server::start().await;
    let dotted = Mail {
        text: ".\n..\n.first\nlast\n.\n".to_owned(),
        ..mail(1)
    };
    server.channel.send(&dotted).await.unwrap();
    let content = &server.server.letters()[0].content;
    assert!(
        content.contains("\r\n.\r\n..\r\n.first\r\nlast\r\n.\r\n"),
        "{content}"
    );
}

#[tokio::test]
async fn connections_are_given_back_when_nothing_was_sent_for_a_while() {
    let mut server = Server::start().await;
    server.send(1).await.unwrap();
    server.channel.rest().await;
    assert_eq!(server.channel.idle.lock().unwrap().len(), 1);
    server.channel.keep = Duration::ZERO;
    server.channel.rest().await;
    assert!(server.channel.idle.lock().unwrap().is_empty());
}
