//! The main journey, played against a running product from outside: two people, their money, their live
//! streams, and a text to many numbers.

mod live;
mod money;
mod people;
mod report;
mod sms;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::{Api, ApiError, Mailbox, Session};
use live::Live;
use report::{Held, Report, Stopped, held};

/// How long a single thing may take before the demo calls it failed.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// What to play against.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Address of the product.
    pub url: String,
    /// Where its mails arrive.
    pub mails: Mails,
    /// Numbers that the SMS schedule goes to, 1 to 10,000.
    pub recipients: usize,
    /// Whether to draw a progress bar on standard error.
    pub progress_bar: bool,
}

/// Where the mails of the product arrive.
#[derive(Debug, Clone)]
pub enum Mails {
    /// In a folder.
    Folder(PathBuf),
    /// Here, by SMTP, at this address and port: the product is configured to send to it.
    Listen(String),
}

/// Plays the journey and writes a report. Tells whether every check held.
///
/// # Errors
/// Only when the report cannot be written; a check that does not hold is part of the report.
pub async fn run(options: &DemoOptions, out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    writeln!(out, "\nCoffer demo against {}\n", options.url)?;
    let mut report = Report::new(out);
    // What stopped it is in the report already.
    let _ = journey(options, &mut report).await;
    report.finish()
}

async fn journey(options: &DemoOptions, report: &mut Report<'_>) -> Result<(), Stopped> {
    let api = report.step("the product is ready", find(options)).await?;
    let mailbox = match &options.mails {
        Mails::Folder(folder) => Mailbox::new(folder),
        Mails::Listen(address) => report.step("mails can be taken", listen(address)).await?,
    };
    let mut people = people::Couple::new(mailbox);
    let sessions = people.arrive(&api, report).await?;
    let (asha, brian) = (&sessions[0], &sessions[1]);
    let money_held = money_and_streams(asha, brian, report).await;
    let sms_held = sms::run(asha, options, report).await;
    money_held.and(sms_held)
}

async fn money_and_streams(
    asha: &Session,
    brian: &Session,
    report: &mut Report<'_>,
) -> Result<(), Stopped> {
    report
        .step(
            "an account opens for each",
            money::accounts_open(asha, brian),
        )
        .await?;
    let mut live = report
        .step("two live streams connect", Live::connect(asha, brian))
        .await?;
    let deposit = report
        .step("a deposit is posted", money::deposit(asha))
        .await?;
    let transfer = report
        .step(
            "a retried transfer moves money once",
            money::pay_twice(asha, brian),
        )
        .await?;
    report
        .step("both balances are right", money::balances(asha, brian))
        .await?;
    report
        .step("both sides have it in their history", {
            money::history(asha, brian, &deposit, &transfer)
        })
        .await?;
    report
        .step("both streams told it live, numbered without a gap", {
            live.expect_first_movements(&deposit, &transfer)
        })
        .await?;
    report
        .step("one who was away gets exactly what was missed", {
            live.miss_one_and_catch_up(asha, brian)
        })
        .await
}

async fn listen(address: &str) -> Held<Mailbox> {
    let mailbox = Mailbox::listen(address).await?;
    let note = mailbox.to_string();
    held(mailbox, note)
}

async fn find(options: &DemoOptions) -> Held<Api> {
    let api = Api::new(&options.url)?;
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match api.ready().await {
            Ok(()) => return held(api, ""),
            Err(ApiError::Unreachable { source, .. }) if source.is_connect() => anyhow::bail!(
                "nobody answers at {}. Start the product in another terminal with `cargo run` \
                 (or `coffer up`), or say with --url where it is.",
                options.url
            ),
            Err(error) if tokio::time::Instant::now() >= until => return Err(error.into()),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
