use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::Config;
use crate::demo::{self, DemoOptions, Mails};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Address of the running product [default: where the configuration lets it listen]
    #[arg(long)]
    url: Option<String>,
    /// Folder that its mails land in [default: the configured one, ./data/mail]
    #[arg(long, value_name = "DIR", conflicts_with = "smtp_listen")]
    mail_dir: Option<PathBuf>,
    /// Address and port at which its mails are taken by SMTP instead; the product must send them there unencrypted
    #[arg(long, value_name = "ADDRESS")]
    smtp_listen: Option<String>,
    /// Numbers that the SMS schedule goes to
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    recipients: u16,
}

impl Demo {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let options = DemoOptions {
            url: self
                .url
                .unwrap_or_else(|| format!("http://{}", config.http_listen)),
            mails: match self.smtp_listen {
                Some(address) => Mails::Listen(address),
                None => Mails::Folder(self.mail_dir.unwrap_or_else(|| config.mail_dir())),
            },
            recipients: usize::from(self.recipients),
            progress_bar: std::io::stderr().is_terminal(),
        };
        let held = demo::run(&options, &mut std::io::stdout()).await?;
        if held { Ok(()) } else { Err(Failure::Refused) }
    }
}
