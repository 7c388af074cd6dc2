use std::time::Duration;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::DemoOptions;
use super::money::fresh_key;
use super::report::{Held, Report, Stopped, held};
use crate::client::{NewSmsSchedule, Session, SmsProgress};

const POLL: Duration = Duration::from_millis(150);
const BASE_PATIENCE: Duration = Duration::from_secs(60);
/// Subscriber numbers under one South African mobile prefix.
const NUMBERS: usize = 10_000_000;

pub(super) async fn run(
    session: &Session,
    options: &DemoOptions,
    report: &mut Report<'_>,
) -> Result<(), Stopped> {
    let count = options.recipients;
    let created = format!("an SMS schedule for {count} numbers is created");
    let id = report.step(&created, create(session, count)).await?;
    let followed = follow(session, &id, count, options.progress_bar);
    report
        .step("every message reaches a final state", followed)
        .await
}

async fn create(session: &Session, count: usize) -> Held<String> {
    let schedule = NewSmsSchedule {
        run_at: jiff::Timestamp::now().to_string(),
        message: "Hello from the Coffer demo".to_owned(),
        recipients: mobile_numbers(count, rand::random::<u32>() as usize),
        name: "Demo".to_owned(),
    };
    let created = session
        .create_sms_schedule(&fresh_key(), &schedule)
        .await?
        .body;
    let report = &created.report;
    ensure!(
        usize::try_from(report.accepted)? == count
            && report.duplicates == 0
            && report.rejected == 0,
        "{} accepted, {} duplicates, {} rejected",
        report.accepted,
        report.duplicates,
        report.rejected
    );
    held(created.id, "")
}

/// Distinct valid mobile numbers, beginning anywhere.
pub(crate) fn mobile_numbers(count: usize, offset: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("+2782{:07}", (offset + n) % NUMBERS))
        .collect()
}

async fn follow(session: &Session, id: &str, count: usize, visible: bool) -> Held<()> {
    let total = i64::try_from(count)?;
    let bar = bar(count, visible);
    // A second more for every 100 messages beyond the first.
    let until = Instant::now() + BASE_PATIENCE + Duration::from_millis(10) * u32::try_from(count)?;
    let progress = loop {
        let progress = session.sms_progress(id).await?;
        bar.set_position(u64::try_from(progress.final_count())?);
        bar.set_message(progress.summary());
        let finished = progress.final_count() == total && progress.finished_at.is_some();
        if finished || Instant::now() >= until {
            break progress;
        }
        sleep(POLL).await;
    };
    bar.finish_and_clear();
    check(&progress, total).context("SMS progress")?;
    held((), progress.summary())
}

fn check(progress: &SmsProgress, total: i64) -> anyhow::Result<()> {
    ensure!(
        progress.total == total,
        "{} messages instead of {total}",
        progress.total
    );
    let done = progress.final_count();
    ensure!(
        done == total,
        "only {done} of {total} are final: {}",
        progress.summary()
    );
    ensure!(
        progress.finished_at.is_some(),
        "all are final, but it has not finished"
    );
    Ok(())
}

fn bar(count: usize, visible: bool) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("    {bar:40} {pos}/{len}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count as u64).with_style(style)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn generated_numbers_are_distinct_and_wrap_within_the_prefix() {
        let numbers = mobile_numbers(1_000, NUMBERS - 10);
        let distinct: HashSet<&String> = numbers.iter().collect();
        assert_eq!(distinct.len(), 1_000);
        assert!(numbers.iter().all(|number| number.len() == 12));
        assert_eq!(numbers[10], "+27820000000");
    }
}
