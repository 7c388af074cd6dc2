use std::io::Write;
use std::time::Duration;

use notify_service::MailChannel;

use super::Running;
use crate::config::Config;

const FIRST_PERSON: &str = r#"{"first_name":"Asha","last_name":"Rao","email":"asha@example.com","password":"a long pass phrase"}"#;

/// How to play the demo against this product, from the same folder and in the same way as it was started.
fn demo_command(config: &Config, url: &str) -> String {
    let defaults = Config::default().rooted();
    let mut command = match std::env::var_os("CARGO") {
        Some(_) => "cargo run -- demo".to_owned(),
        None => "coffer demo".to_owned(),
    };
    if config.http_listen != defaults.http_listen {
        command += &format!(" --url {url}");
    }
    if let Some(server) = mail_server(config) {
        command += &format!(" --smtp-listen {server}");
    } else if config.mail_dir() != defaults.mail_dir() {
        command += &format!(" --mail-dir {}", config.mail_dir().display());
    }
    command
}

/// Where mails go, when that is no folder.
fn mail_server(config: &Config) -> Option<String> {
    let mail = &config.notify.mail;
    (mail.channel == MailChannel::Smtp).then(|| format!("{}:{}", mail.smtp.host, mail.smtp.port))
}

/// Says where everything is and what to try next.
pub(super) fn show(running: &Running, took: Duration) -> std::io::Result<()> {
    let (url, config) = (running.url(), running.config());
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\nCoffer is ready after {:.1} s.\n",
        took.as_secs_f64()
    )?;
    writeln!(out, "  API    {url}/v1")?;
    writeln!(out, "  Docs   {url}/docs")?;
    writeln!(out, "  Data   {}", config.data_dir.display())?;
    match mail_server(config) {
        Some(server) => writeln!(out, "  Mail   by SMTP to {server}")?,
        None => writeln!(out, "  Mail   {}", config.mail_dir().display())?,
    }
    writeln!(out, "\nTry in a second terminal:\n")?;
    writeln!(out, "  {}", demo_command(config, &url))?;
    writeln!(out, "  curl -s {url}/health/ready")?;
    writeln!(
        out,
        "  curl -s {url}/v1/auth/register -H 'content-type: application/json' \\"
    )?;
    writeln!(out, "    -d '{FIRST_PERSON}'")?;
    writeln!(out, "\nCtrl-C stops it.\n")?;
    out.flush()
}
