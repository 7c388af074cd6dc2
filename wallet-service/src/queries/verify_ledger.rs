//! Reads the whole ledger and says whether it adds up.

use platform::database::Database;
use platform::{Error, Kind};

use crate::storage::verification::{self, CurrencyTotal};
use crate::storage::{has_schema, patient_snapshot};

/// Something that does not add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What should hold, in snake case.
    pub check: &'static str,
    /// What was found instead; ids and amounts only.
    pub detail: String,
}

/// What a walk through the ledger found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerReport {
    /// Accounts, external ones included.
    pub accounts: u64,
    /// Transactions, refused ones included.
    pub transactions: u64,
    /// Entries.
    pub entries: u64,
    /// Sums by currency.
    pub totals: Vec<CurrencyTotal>,
    /// What does not add up; at most a hundred for each check.
    pub differences: Vec<Difference>,
}

impl LedgerReport {
    /// Whether everything adds up.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }
}

impl std::fmt::Display for LedgerReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} accounts, {} transactions, {} entries",
            self.accounts, self.transactions, self.entries
        )?;
        for total in &self.totals {
            writeln!(
                f,
                "{}: users {}, external {}, entries sum to {} (minor units)",
                total.currency, total.users_minor, total.external_minor, total.entries_minor
            )?;
        }
        for difference in &self.differences {
            writeln!(f, "DIFFERENCE {}: {}", difference.check, difference.detail)?;
        }
        f.write_str(if self.is_clean() {
            "the ledger adds up"
        } else {
            "the ledger is WRONG"
        })
    }
}

/// Verifies the ledger at one moment while writers go on: entries sum to zero by transaction and by currency, balances,
/// running balances and versions equal the entries, no balance is below its floor, every status fits its entries, and
/// every answered idempotency key stands for one transaction.
///
/// # Errors
/// `no_ledger` when there are no tables yet, and when the database does not answer. What does not add up is no error but part of the report.
pub async fn verify_ledger(db: &Database) -> Result<LedgerReport, Error> {
    if !has_schema(db).await? {
        return Err(Error::new(
            Kind::PreconditionFailed,
            "no_ledger",
            "there is no ledger in this database yet",
        ));
    }
    let tx = patient_snapshot(db).await?;
    let [accounts, transactions, entries] = verification::counts(&tx).await?;
    let totals = verification::totals(&tx).await?;
    let mut differences = Vec::new();
    for total in &totals {
        let sums = [
            (
                "entries_of_a_currency_sum_to_zero",
                i128::from(total.entries_minor),
            ),
            (
                "balances_of_a_currency_sum_to_zero",
                i128::from(total.users_minor) + i128::from(total.external_minor),
            ),
        ];
        for (check, off) in sums.into_iter().filter(|sum| sum.1 != 0) {
            let detail = format!("{} is off by {off} minor units", total.currency);
            differences.push(Difference { check, detail });
        }
    }
    for question in &verification::QUESTIONS {
        let found = verification::ask(&tx, question).await?;
        differences.extend(found.into_iter().map(|detail| Difference {
            check: question.name,
            detail,
        }));
    }
    tx.rollback().await?;
    Ok(LedgerReport {
        accounts,
        transactions,
        entries,
        totals,
        differences,
    })
}
