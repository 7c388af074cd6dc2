use std::io::Write;

use clap::Args;
use platform::database::Database;
use serde_json::json;
use wallet_service::{LedgerReport, verify_ledger};

use super::Failure;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Reads one moment of the ledger, so the product may run meanwhile.
    pub(super) async fn run(self, config: &Config) -> Result<(), Failure> {
        let db = Database::connect(&config.wallet.database)
            .await
            .map_err(anyhow::Error::from)?;
        let report = verify_ledger(&db).await.map_err(anyhow::Error::from)?;
        db.close().await;
        let mut out = std::io::stdout();
        if self.json {
            writeln!(out, "{}", as_json(&report))?;
        } else {
            writeln!(out, "{report}")?;
        }
        if report.is_clean() {
            Ok(())
        } else {
            Err(Failure::Refused)
        }
    }
}

fn as_json(report: &LedgerReport) -> serde_json::Value {
    let totals = report.totals.iter().map(|total| {
        json!({
            "currency": total.currency,
            "users_minor": total.users_minor,
            "external_minor": total.external_minor,
            "entries_minor": total.entries_minor,
        })
    });
    let differences = report.differences.iter();
    let differences = differences.map(|one| json!({ "check": one.check, "detail": one.detail }));
    json!({
        "ok": report.is_clean(),
        "accounts": report.accounts,
        "transactions": report.transactions,
        "entries": report.entries,
        "totals": totals.collect::<Vec<_>>(),
        "differences": differences.collect::<Vec<_>>(),
    })
}
