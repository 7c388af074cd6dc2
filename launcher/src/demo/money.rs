use anyhow::{Context, bail, ensure};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::report::{Held, held};
use super::{PATIENCE, POLL};
use crate::client::{Account, Money, Session, Transaction};

pub(super) const DEPOSIT_MINOR: i64 = 500_000;
pub(super) const TRANSFER_MINOR: i64 = 125_050;

/// A key that no request has used before.
pub(super) fn fresh_key() -> String {
    Uuid::now_v7().to_string()
}

/// Accounts open by an event after registration, so a moment may pass.
pub(super) async fn accounts_open(asha: &Session, brian: &Session) -> Held<()> {
    for session in [asha, brian] {
        let until = Instant::now() + PATIENCE;
        while session.accounts().await?.is_empty() {
            ensure!(
                Instant::now() < until,
                "{} has no account",
                session.user().first_name
            );
            sleep(POLL).await;
        }
    }
    held((), "")
}

pub(super) async fn deposit(asha: &Session) -> Held<Transaction> {
    let amount = Money::inr(DEPOSIT_MINOR);
    let deposit = asha.deposit(&fresh_key(), &amount).await?.body;
    ensure!(
        deposit.status == "posted",
        "the deposit is {}",
        deposit.status
    );
    ensure!(
        deposit.amount == amount,
        "the deposit says {}",
        deposit.amount
    );
    held(deposit, format!("{amount} for Asha"))
}

/// Sends the same transfer twice under one key: the second answer must be the first one again.
pub(super) async fn pay_twice(asha: &Session, brian: &Session) -> Held<Transaction> {
    let (key, amount) = (fresh_key(), Money::inr(TRANSFER_MINOR));
    let handle = &brian.user().handle;
    let first = asha.transfer(&key, handle, &amount, "Lunch").await?;
    let again = asha.transfer(&key, handle, &amount, "Lunch").await?;
    ensure!(
        first.body.status == "posted",
        "the transfer is {}",
        first.body.status
    );
    ensure!(!first.replayed, "the first answer is marked as a replay");
    ensure!(
        again.replayed,
        "the retry is not marked with Idempotency-Replayed"
    );
    ensure!(
        again.status == first.status,
        "the retry got {}, not {}",
        again.status,
        first.status
    );
    ensure!(
        again.body.id == first.body.id,
        "the retry made transaction {} beside {}",
        again.body.id,
        first.body.id
    );
    held(first.body, format!("{amount} from Asha to Brian"))
}

pub(super) async fn balances(asha: &Session, brian: &Session) -> Held<()> {
    let expected = [
        (asha, DEPOSIT_MINOR - TRANSFER_MINOR),
        (brian, TRANSFER_MINOR),
    ];
    let mut notes = Vec::new();
    for (session, minor) in expected {
        let name = &session.user().first_name;
        let account = rupee_account(session).await?;
        for balance in [&account.posted, &account.available] {
            ensure!(
                *balance == Money::inr(minor),
                "{name} has {balance} instead of {}",
                Money::inr(minor)
            );
        }
        notes.push(format!("{name} {}", account.posted));
    }
    held((), notes.join(", "))
}

async fn rupee_account(session: &Session) -> anyhow::Result<Account> {
    let accounts = session.accounts().await?;
    accounts
        .into_iter()
        .find(|account| account.currency == "INR")
        .context("no INR account")
}

pub(super) async fn history(
    asha: &Session,
    brian: &Session,
    deposit: &Transaction,
    transfer: &Transaction,
) -> Held<()> {
    expect_history(asha, &[(transfer, "out"), (deposit, "in")]).await?;
    expect_history(brian, &[(transfer, "in")]).await?;
    held((), "")
}

async fn expect_history(
    session: &Session,
    expected: &[(&Transaction, &str)],
) -> anyhow::Result<()> {
    let name = &session.user().first_name;
    let page = session.transactions(None, 100).await?;
    if page.data.len() != expected.len() {
        bail!(
            "{name} has {} transactions instead of {}",
            page.data.len(),
            expected.len()
        );
    }
    for (found, (wanted, direction)) in page.data.iter().zip(expected) {
        ensure!(
            found.id == wanted.id,
            "{name} has {} where {} belongs",
            found.id,
            wanted.id
        );
        ensure!(
            found.direction == *direction && found.amount == wanted.amount,
            "{name} sees {} {}",
            found.direction,
            found.amount
        );
    }
    Ok(())
}
