//! How mails leave the house.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::Mailbox;
use platform::config::{Problem, Profile, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::send_mail::Policy;

/// Files that are written at the same time.
const FILES_AT_ONCE: usize = 8;

/// How long a replica that is killed may delay the mails that it was about to send.
const LEASE: Duration = Duration::from_secs(30);

/// How mails leave the house.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MailConfig {
    /// Where mails go.
    pub channel: MailChannel,
    /// Folder into which mails are written, one `.eml` file each. Channel `folder` only.
    pub folder: PathBuf,
    /// Who the mails come from, as `Name <address>`.
    pub from: String,
    /// Where people reach the product; links in mails begin with it.
    pub public_url: String,
    /// How often a mail is tried before it is given up. None is tried once its secret has expired.
    pub attempts: u32,
    /// Wait after the first failure, in milliseconds; doubles each time.
    pub first_wait_ms: u64,
    /// Longest wait between two tries, in milliseconds.
    pub longest_wait_ms: u64,
    /// How long sending one mail may take, in milliseconds. Keep it well below `shutdown.grace_ms`: a mail that the server
    /// takes after the process has ended is not noted as sent, and another replica sends it again. What is left of the
    /// grace is for noting. A server that takes longer to answer a whole mail gets it several times: raise both, and the
    /// time after which a supervisor kills the process.
    pub send_timeout_ms: u64,
    /// The mail server. Channel `smtp` only.
    pub smtp: SmtpConfig,
}

/// Ways by which mails leave the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailChannel {
    /// Into a folder.
    #[default]
    Folder,
    /// To a mail server.
    Smtp,
}

/// The mail server that takes our mails on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpConfig {
    /// Name or address of the server.
    pub host: String,
    /// Its port: usually 587 for `starttls`, 465 for `implicit`.
    pub port: u16,
    /// How the connection is encrypted. `none` is refused in production unless the server is on this machine.
    pub tls: SmtpTls,
    /// Who we say we are; empty: we do not say it.
    pub username: String,
    /// The password of `username`.
    pub password: Secret,
    /// PEM file with root certificates that are trusted beside those of the machine; empty: none.
    pub ca_file: PathBuf,
    /// Longest wait for a connection and for the answer to a command, in milliseconds. All of them and the answer to the
    /// whole mail share `send_timeout_ms`: keep this well below it, so that the answer that matters is waited for.
    pub timeout_ms: u64,
    /// Most connections that one replica opens, and so mails that it sends at the same time.
    pub max_connections: u32,
    /// Name under which we greet the server; empty: the domain of `from`.
    pub helo_name: String,
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Not at all.
    None,
    /// From the STARTTLS command on, which the server must offer.
    #[default]
    Starttls,
    /// From the start.
    Implicit,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            channel: MailChannel::default(),
            folder: PathBuf::from("data/mail"),
            from: "Coffer <coffer@localhost>".to_owned(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            attempts: 24,
            first_wait_ms: 5_000,
            longest_wait_ms: 600_000,
            send_timeout_ms: 20_000,
            smtp: SmtpConfig::default(),
        }
    }
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 587,
            tls: SmtpTls::default(),
            username: String::new(),
            password: Secret::default(),
            ca_file: PathBuf::new(),
            timeout_ms: 10_000,
            max_connections: 8,
            helo_name: String::new(),
        }
    }
}

impl MailConfig {
    /// Who the mails come from.
    pub(crate) fn sender(&self) -> Result<Mailbox, lettre::address::AddressError> {
        self.from.parse()
    }

    /// How mails are tried.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            attempts: self.attempts,
            first_wait: Duration::from_millis(self.first_wait_ms),
            longest_wait: Duration::from_millis(self.longest_wait_ms),
            send_timeout: Duration::from_millis(self.send_timeout_ms),
            lease: LEASE,
            at_once: match self.channel {
                MailChannel::Folder => FILES_AT_ONCE,
                MailChannel::Smtp => usize::try_from(self.smtp.max_connections).unwrap_or(1),
            },
        }
    }

    /// Problems of this section in an installation of that profile, with keys relative to it.
    pub(crate) fn problems(&self, profile: Profile) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem::new(key, message));
            }
        };
        check(
            self.channel == MailChannel::Smtp || !self.folder.as_os_str().is_empty(),
            "folder",
            "must not be empty",
        );
        check(
            self.sender()
                .is_ok_and(|from| from.email.to_string().is_ascii()),
            "from",
            "must be an address or `Name <address>`, the address in ASCII",
        );
        let url = self.public_url.parse::<tonic::transport::Uri>();
        check(
            url.is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none()
            }),
            "public_url",
            "must be an http or https address without a query",
        );
        check(
            (1..=100).contains(&self.attempts),
            "attempts",
            "must be between 1 and 100",
        );
        check(
            (1..=self.longest_wait_ms).contains(&self.first_wait_ms),
            "first_wait_ms",
            "must be at least 1 and at most mail.longest_wait_ms",
        );
        check(
            self.longest_wait_ms <= 24 * 3_600_000,
            "longest_wait_ms",
            "must be at most a day",
        );
        check(
            (1..=600_000).contains(&self.send_timeout_ms),
            "send_timeout_ms",
            "must be between 1 and 600000",
        );
        if self.channel == MailChannel::Smtp {
            problems.extend(
                self.smtp
                    .problems(profile, self.send_timeout_ms)
                    .into_iter()
                    .map(|problem| Problem::new(format!("smtp.{}", problem.key), problem.message)),
            );
        }
        problems
    }
}

impl SmtpConfig {
    /// Whether the server is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|host| host.is_loopback())
    }

    fn problems(&self, profile: Profile, send_timeout_ms: u64) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem::new(key, message));
            }
        };
        check(
            is_name(&self.host) || self.host.parse::<std::net::IpAddr>().is_ok(),
            "host",
            "must be the name or address of a mail server",
        );
        check(self.port > 0, "port", "must be between 1 and 65535");
        check(
            profile != Profile::Production || self.tls != SmtpTls::None || self.is_local(),
            "tls",
            "must be starttls or implicit in production: mails carry secrets",
        );
        check(
            self.username.len() <= 255 && !self.username.contains(char::is_control),
            "username",
            "must have at most 255 bytes and no control characters",
        );
        check(
            self.username.is_empty() == self.password.is_empty(),
            "password",
            "must be set if and only if mail.smtp.username is",
        );
        check(
            !self.password.reveal().contains(['\0', '\r', '\n']),
            "password",
            "must be one line",
        );
        if let Err(problem) = roots(&self.ca_file) {
            check(false, "ca_file", &problem);
        }
        check(
            (1..=send_timeout_ms).contains(&self.timeout_ms),
            "timeout_ms",
            "must be at least 1 and at most mail.send_timeout_ms",
        );
        check(
            (1..=100).contains(&self.max_connections),
            "max_connections",
            "must be between 1 and 100",
        );
        check(
            self.helo_name.is_empty() || is_name(&self.helo_name),
            "helo_name",
            "must be a host name",
        );
        problems
    }
}

/// The PEM text of the extra root certificates; empty without a file.
pub(crate) fn roots(file: &Path) -> Result<Vec<u8>, String> {
    if file.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let pem = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    let usable = pem.windows(begin.len()).any(|window| window == begin)
        && lettre::transport::smtp::client::Certificate::from_pem(&pem).is_ok();
    if usable {
        Ok(pem)
    } else {
        Err("must be a PEM file with at least one certificate".to_owned())
    }
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use platform::process::ShutdownConfig;

    use super::*;

    fn smtp() -> MailConfig {
        let mut mail = MailConfig {
            channel: MailChannel::Smtp,
            ..MailConfig::default()
        };
        mail.smtp.host = "mail.example.org".to_owned();
        mail
    }

    fn keys(mail: &MailConfig, profile: Profile) -> Vec<String> {
        let problems = mail.problems(profile);
        problems.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn a_mail_server_needs_no_more_than_its_name() {
        assert_eq!(smtp().problems(Profile::Production), []);
    }

    #[test]
    fn a_mail_that_is_begun_just_before_the_end_is_sent_and_noted_within_the_grace() {
        const NOTING_MS: u64 = 10_000;
        let (mail, end) = (MailConfig::default(), ShutdownConfig::default());
        assert!(mail.send_timeout_ms + NOTING_MS <= end.grace_ms);
        // Half of it at least is for the answer to the mail itself when one before that was slow.
        assert!(mail.smtp.timeout_ms * 2 <= mail.send_timeout_ms);
    }

    #[test]
    fn every_problem_of_a_mail_server_is_named_at_once() {
        let mut mail = smtp();
        mail.smtp = SmtpConfig {
            host: "mail server\r\n".to_owned(),
            port: 0,
            tls: SmtpTls::None,
            username: "coffer\n".to_owned(),
            password: "a\r\nb".into(),
            ca_file: "/nowhere/ca.pem".into(),
            timeout_ms: 60_001,
            max_connections: 0,
            helo_name: "a b".to_owned(),
        };
        assert_eq!(
            keys(&mail, Profile::Production),
            [
                "smtp.host",
                "smtp.port",
                "smtp.tls",
                "smtp.username",
                "smtp.password",
                "smtp.ca_file",
                "smtp.timeout_ms",
                "smtp.max_connections",
                "smtp.helo_name",
            ]
        );
        mail.channel = MailChannel::Folder;
        assert_eq!(mail.problems(Profile::Production), []);
    }

    #[test]
    fn an_open_connection_is_refused_in_production_unless_it_stays_on_the_machine() {
        let mut mail = smtp();
        mail.smtp.tls = SmtpTls::None;
        assert_eq!(keys(&mail, Profile::Production), ["smtp.tls"]);
        assert_eq!(mail.problems(Profile::Staging), []);
        for host in ["localhost", "127.0.0.1", "::1"] {
            mail.smtp.host = host.to_owned();
            assert_eq!(mail.problems(Profile::Production), [], "{host}");
        }
    }

    #[test]
    fn a_name_without_a_password_is_a_problem_and_the_other_way_round() {
        let mut mail = smtp();
        mail.smtp.username = "coffer".to_owned();
        assert_eq!(keys(&mail, Profile::Development), ["smtp.password"]);
        mail.smtp.username = String::new();
        mail.smtp.password = "secret".into();
        assert_eq!(keys(&mail, Profile::Development), ["smtp.password"]);
        assert!(!format!("{mail:?}").contains("secret"));
    }

    #[test]
    fn a_file_without_certificates_is_a_problem() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut mail = smtp();
        mail.smtp.ca_file = file.path().to_owned();
        assert_eq!(keys(&mail, Profile::Development), ["smtp.ca_file"]);
    }
}
