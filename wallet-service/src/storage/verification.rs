//! Questions to the books whose answers must be empty. The statements read alike on SQLite and PostgreSQL.

use platform::Error;
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Statement};
use uuid::Uuid;

use super::transactions::TransactionKind;

/// Rows named per question; one is enough to know that something is wrong.
const MOST_NAMED: usize = 100;

/// How the answers to a question are told.
type Tell = fn(&QueryResult) -> Result<String, sea_orm::DbErr>;

/// A question: its name, the SQL that finds what is wrong, and how a found row is told.
pub(crate) struct Question {
    pub(crate) name: &'static str,
    /// `{money_scopes}` in it stands for: the key `k` is one of a method that moves money.
    sql: &'static str,
    tell: Tell,
}

/// Everything that `ledger verify` asks, other than sums by currency.
pub(crate) const QUESTIONS: [Question; 8] = [
    Question {
        name: "entries_of_a_transaction_sum_to_zero",
        sql: "SELECT transaction_id, CAST(SUM(amount_minor) AS BIGINT) AS off FROM entries \
              GROUP BY transaction_id HAVING SUM(amount_minor) <> 0",
        tell: |row| {
            let (id, off): (Uuid, i64) =
                (row.try_get("", "transaction_id")?, row.try_get("", "off")?);
            Ok(format!("transaction {id} is off by {off} minor units"))
        },
    },
    Question {
        name: "balances_and_versions_equal_the_entries",
        sql: "SELECT a.id AS id, a.posted_minor AS posted, a.version AS version, \
                CAST(COALESCE(b.total, 0) AS BIGINT) AS total, \
                CAST(COALESCE(b.lines, 0) AS BIGINT) AS lines \
              FROM accounts a LEFT JOIN (SELECT account_id, SUM(amount_minor) AS total, \
                COUNT(*) AS lines, MAX(version) AS newest FROM entries GROUP BY account_id) b \
                ON b.account_id = a.id \
              WHERE a.posted_minor <> COALESCE(b.total, 0) OR a.version <> COALESCE(b.lines, 0) \
                OR a.version <> COALESCE(b.newest, 0)",
        tell: |row| {
            let id: Uuid = row.try_get("", "id")?;
            let (posted, total): (i64, i64) =
                (row.try_get("", "posted")?, row.try_get("", "total")?);
            let (version, lines): (i64, i64) =
                (row.try_get("", "version")?, row.try_get("", "lines")?);
            Ok(format!(
                "account {id} has {posted} at version {version}, its {lines} entries sum to {total}"
            ))
        },
    },
    Question {
        name: "running_balances_add_up",
        sql: "SELECT e.account_id AS id, e.version AS version FROM entries e \
              LEFT JOIN entries p ON p.account_id = e.account_id AND p.version = e.version - 1 \
              WHERE e.balance_minor <> COALESCE(p.balance_minor, 0) + e.amount_minor \
                OR (p.version IS NULL AND e.version <> 1)",
        tell: |row| {
            let (id, version): (Uuid, i64) = (row.try_get("", "id")?, row.try_get("", "version")?);
            Ok(format!(
                "entry {version} of account {id} does not follow the one before"
            ))
        },
    },
    Question {
        name: "entries_belong_to_an_account",
        sql: "SELECT DISTINCT e.account_id AS id FROM entries e \
              LEFT JOIN accounts a ON a.id = e.account_id WHERE a.id IS NULL",
        tell: |row| {
            Ok(format!(
                "there is no account {}",
                row.try_get::<Uuid>("", "id")?
            ))
        },
    },
    Question {
        name: "entries_belong_to_a_transaction",
        sql: "SELECT DISTINCT e.transaction_id AS id FROM entries e \
              LEFT JOIN transactions t ON t.id = e.transaction_id WHERE t.id IS NULL",
        tell: |row| {
            Ok(format!(
                "there is no transaction {}",
                row.try_get::<Uuid>("", "id")?
            ))
        },
    },
    Question {
        name: "a_posted_transaction_has_its_two_entries_and_another_none",
        sql: "SELECT t.id AS id, t.status AS status FROM transactions t \
              LEFT JOIN (SELECT transaction_id, COUNT(*) AS lines, MAX(amount_minor) AS top \
                FROM entries GROUP BY transaction_id) b ON b.transaction_id = t.id \
              WHERE (t.status = 'posted' AND (COALESCE(b.lines, 0) <> 2 \
                OR COALESCE(b.top, 0) <> t.amount_minor)) \
                OR (t.status <> 'posted' AND b.lines IS NOT NULL)",
        tell: |row| {
            let (id, status): (Uuid, String) = (row.try_get("", "id")?, row.try_get("", "status")?);
            Ok(format!(
                "the entries of transaction {id} do not fit its status {status}"
            ))
        },
    },
    Question {
        name: "no_balance_is_below_its_floor",
        sql: "SELECT id, posted_minor AS posted FROM accounts \
              WHERE floor_minor IS NOT NULL AND posted_minor - pending_minor < floor_minor",
        tell: |row| {
            let (id, posted): (Uuid, i64) = (row.try_get("", "id")?, row.try_get("", "posted")?);
            Ok(format!("account {id} stands at {posted}"))
        },
    },
    Question {
        name: "every_answered_key_has_one_transaction",
        // A key may come again once it has expired, so only what happened since it was claimed counts.
        sql: "SELECT k.scope AS scope, CAST(COUNT(t.id) AS BIGINT) AS found \
              FROM idempotency_keys k LEFT JOIN transactions t ON t.request_scope = k.scope \
                AND t.request_key = k.\"key\" AND t.created_at >= k.\"at\" \
              WHERE k.answer IS NOT NULL AND ({money_scopes}) \
              GROUP BY k.scope, k.\"key\" HAVING COUNT(t.id) <> 1",
        tell: |row| {
            let (scope, found): (String, i64) =
                (row.try_get("", "scope")?, row.try_get("", "found")?);
            Ok(format!("a key of {scope} stands for {found} transactions"))
        },
    },
];

/// What a question finds wrong, at most [`MOST_NAMED`] lines.
pub(crate) async fn ask(
    tx: &DatabaseTransaction,
    question: &Question,
) -> Result<Vec<String>, Error> {
    // The scopes of keys end in the methods that were called.
    let scopes = TransactionKind::ALL.map(|kind| format!("k.scope LIKE '%/{}'", kind.as_str()));
    let sql = question.sql.replace("{money_scopes}", &scopes.join(" OR "));
    let sql = format!("{sql} LIMIT {MOST_NAMED}");
    let rows = tx
        .query_all_raw(Statement::from_string(tx.get_database_backend(), sql))
        .await?;
    rows.iter().map(|row| Ok((question.tell)(row)?)).collect()
}

/// Sums of one currency, in minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrencyTotal {
    /// ISO 4217 code.
    pub currency: String,
    /// What all users together have.
    pub users_minor: i64,
    /// What the world outside is owed; below zero when more came in than went out.
    pub external_minor: i64,
    /// Sum of all entries: zero, or the books are wrong.
    pub entries_minor: i64,
}

/// Sums by currency.
pub(crate) async fn totals(tx: &DatabaseTransaction) -> Result<Vec<CurrencyTotal>, Error> {
    let sql = "SELECT a.currency AS currency, \
                 CAST(SUM(CASE WHEN a.user_id IS NOT NULL THEN a.posted_minor ELSE 0 END) AS BIGINT) AS users, \
                 CAST(SUM(CASE WHEN a.user_id IS NULL THEN a.posted_minor ELSE 0 END) AS BIGINT) AS external, \
                 CAST(COALESCE(SUM(b.total), 0) AS BIGINT) AS entries \
               FROM accounts a LEFT JOIN (SELECT account_id, SUM(amount_minor) AS total \
                 FROM entries GROUP BY account_id) b ON b.account_id = a.id \
               GROUP BY a.currency ORDER BY a.currency";
    let rows = tx
        .query_all_raw(Statement::from_string(tx.get_database_backend(), sql))
        .await?;
    rows.iter()
        .map(|row| {
            Ok(CurrencyTotal {
                currency: row.try_get("", "currency")?,
                users_minor: row.try_get("", "users")?,
                external_minor: row.try_get("", "external")?,
                entries_minor: row.try_get("", "entries")?,
            })
        })
        .collect()
}

/// How many accounts, transactions, entries there are.
pub(crate) async fn counts(tx: &DatabaseTransaction) -> Result<[u64; 3], Error> {
    let mut counts = [0; 3];
    for (count, table) in counts
        .iter_mut()
        .zip(["accounts", "transactions", "entries"])
    {
        let sql = format!("SELECT CAST(COUNT(*) AS BIGINT) AS n FROM {table}");
        let statement = Statement::from_string(tx.get_database_backend(), sql);
        if let Some(row) = tx.query_one_raw(statement).await? {
            *count = u64::try_from(row.try_get::<i64>("", "n")?).unwrap_or(0);
        }
    }
    Ok(counts)
}
