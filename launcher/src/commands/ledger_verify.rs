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
        // Connecting would make it, and an empty ledger adds up.
        if config.wallet.database.is_missing() {
            return Err(super::no_data(config));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_there_is_no_ledger_it_says_so_and_makes_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            data_dir: folder.path().join("data %?#"),
            ..Config::default()
        }
        .rooted();
        let refused = Verify { json: true }.run(&config).await;
        let Err(Failure::Broken(error)) = refused else {
            panic!("nothing is there to verify");
        };
        assert!(error.to_string().contains("there is no data"), "{error}");
        assert!(!config.data_dir.exists());

        // Half of a start: the file is there, the tables are not.
        std::fs::create_dir(&config.data_dir).expect("a folder");
        std::fs::write(config.data_dir.join("wallet.db"), b"").expect("a file");
        let refused = Verify { json: true }.run(&config).await;
        let Err(Failure::Broken(error)) = refused else {
            panic!("nothing is there to verify");
        };
        assert!(error.to_string().contains("no ledger"), "{error}");
    }
}
