use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::client::ApiError;

/// What a step that held gives on, and a note for the reader.
pub(super) type Held<T> = anyhow::Result<(T, String)>;

/// A step that held.
pub(super) fn held<T>(value: T, note: impl Into<String>) -> Held<T> {
    Ok((value, note.into()))
}

/// A check did not hold; what builds on it cannot go on. The report has the reason.
#[derive(Debug)]
pub(super) struct Stopped;

/// What to do about too many runs in a row.
const RATE_LIMITED: &str = "The demo signs new people up each time, and an address may do that only so often. Try again in a \
    few minutes, or start the product with COFFER_GATEWAY__RATE_LIMIT__ENABLED=false.";

fn is_rate_limited(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<ApiError>()
        .and_then(ApiError::problem)
        .is_some_and(|problem| problem.code == "rate_limited")
}

/// Steps as they happen, one line each.
pub(super) struct Report<'a> {
    out: &'a mut (dyn Write + Send),
    started: Instant,
    passed: usize,
    failures: Vec<String>,
    broken: Option<io::Error>,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self {
            out,
            started: Instant::now(),
            passed: 0,
            failures: Vec::new(),
            broken: None,
        }
    }

    /// Runs one step and writes its line.
    pub(super) async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Held<T>>,
    ) -> Result<T, Stopped> {
        let started = Instant::now();
        let outcome = work.await;
        let took = brief(started.elapsed());
        match outcome {
            Ok((value, note)) => {
                self.passed += 1;
                let note = if note.is_empty() {
                    note
                } else {
                    format!("  {note}")
                };
                self.line(&format!("  ✓ {name:<52} {took:>8}{note}"));
                Ok(value)
            }
            Err(error) => {
                let reason = format!("{error:#}");
                self.line(&format!("  ✗ {name:<52} {took:>8}\n      {reason}"));
                if is_rate_limited(&error) {
                    self.line(&format!("      {RATE_LIMITED}"));
                }
                self.failures.push(name.to_owned());
                Err(Stopped)
            }
        }
    }

    /// Writes the last line and tells whether every check held.
    pub(super) fn finish(mut self) -> anyhow::Result<bool> {
        let took = brief(self.started.elapsed());
        let line = match self.failures.as_slice() {
            [] => format!("\nAll {} checks held in {took}.", self.passed),
            failed => format!("\nDid not hold: {}.", failed.join("; ")),
        };
        self.line(&line);
        match self.broken {
            Some(error) => Err(error.into()),
            None => Ok(self.failures.is_empty()),
        }
    }

    fn line(&mut self, line: &str) {
        let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        if let Err(error) = written {
            self.broken.get_or_insert(error);
        }
    }
}

fn brief(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_step_makes_the_whole_report_fail_and_stands_in_it() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report
            .step("good", async { held((), "1 of 1") })
            .await
            .unwrap();
        let stopped: Result<(), Stopped> = report
            .step("bad", async { anyhow::bail!("two movements") })
            .await;
        assert!(stopped.is_err());
        assert!(!report.finish().unwrap());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("✓ good") && text.contains("✗ bad"), "{text}");
        assert!(
            text.contains("two movements") && text.contains("Did not hold: bad"),
            "{text}"
        );
    }
}
