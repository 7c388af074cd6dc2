//! The connection is lost at COMMIT, in every way that it can be lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform::database::Database;
use platform::test_kit::TestPlatform;
use platform::work::{RequestKey, UnitOfWork, Work};
use platform::{Error, Kind};
use proto::wallet::v1::TransferRequest;
use tokio::time::Instant;
use uuid::Uuid;

use super::batch::Commit;
use super::{
    Commands, DEPOSIT, Deposit, Outcome, Poster, PosterLimits, TRANSFER, Ticket, TransferFunds,
    register_payee,
};
use crate::domain::{Amount, Categories, Currency, Payee, PayeeRef, PayeeState, UserId};
use crate::providers::Funding;
use crate::queries::verify_ledger;
use crate::storage::accounts;
use crate::storage::migrations::Migrator;

const ASHA: UserId = UserId(Uuid::from_u128(1));
const BEN: UserId = UserId(Uuid::from_u128(2));
const CHI: UserId = UserId(Uuid::from_u128(3));

/// What becomes of one COMMIT.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It is done, but an error comes back.
    Done(Kind),
    /// It is not done, and an error comes back.
    NotDone(Kind),
    /// It is done, and nothing ever comes back.
    SilentlyDone,
    /// It is not done, and nothing ever comes back.
    Silence,
    /// It is done, an error comes back, and the account of [`CHI`] cannot be read any more.
    DoneAndSpoilt,
}

/// Meets each COMMIT with the next fault; without one it goes well.
struct Faults {
    next: Mutex<VecDeque<Fault>>,
    db: Database,
}

#[async_trait::async_trait]
impl Commit for Faults {
    async fn commit(&self, unit: UnitOfWork) -> Result<(), Error> {
        let fault = self.next.lock().unwrap().pop_front();
        let lost = |kind| Err(Error::new(kind, "lost", "the connection is lost"));
        match fault {
            None => unit.commit().await,
            Some(Fault::Done(kind)) => {
                unit.commit().await?;
                lost(kind)
            }
            Some(Fault::NotDone(kind)) => {
                drop(unit);
                lost(kind)
            }
            Some(Fault::SilentlyDone) => {
                unit.commit().await?;
                std::future::pending().await
            }
            Some(Fault::Silence) => {
                let _unit = unit;
                std::future::pending().await
            }
            Some(Fault::DoneAndSpoilt) => {
                unit.commit().await?;
                let tx = self.db.begin().await?;
                accounts::spoil(&tx, CHI).await?;
                tx.commit().await?;
                lost(Kind::Internal)
            }
        }
    }
}

struct Wallet {
    platform: TestPlatform,
    work: Work,
    commands: Commands,
    faults: Arc<Faults>,
}

impl Wallet {
    /// Three users with 100 each.
    async fn start() -> Self {
        let platform = TestPlatform::start().await;
        let db = platform.database::<Migrator>("wallet").await;
        let work = Work::new(crate::NAME, db.clone(), platform.clock());
        let faults = Arc::new(Faults {
            next: Mutex::default(),
            db,
        });
        let limits = PosterLimits {
            batch: 16,
            queue: 16,
            patience: Duration::from_millis(500),
        };
        let tasks = platform.handles().tasks;
        let poster = Poster::start_with(work.clone(), limits, faults.clone(), &tasks);
        let funding = Funding::new("sandbox").unwrap();
        let commands = Commands::new(work.clone(), poster, funding);
        let wallet = Self {
            platform,
            work,
            commands,
            faults,
        };
        for user in [ASHA, BEN, CHI] {
            wallet.register(user).await;
            wallet.deposit(user).await;
        }
        wallet
    }

    async fn register(&self, user: UserId) {
        let mut unit = self.work.begin().await.unwrap();
        let payee = Payee {
            user,
            handle: user.to_string().to_uppercase(),
            email_hash: user.0.as_bytes().to_vec(),
            state: PayeeState::Registered,
            version: 1,
        };
        register_payee(&mut unit, payee, inr()).await.unwrap();
        unit.commit().await.unwrap();
    }

    async fn deposit(&self, user: UserId) {
        let deposit = Deposit {
            user,
            amount: Amount::parse(100, inr()).unwrap(),
            account: None,
            source: String::new(),
        };
        let ticket = ticket(user, DEPOSIT, "first", &TransferRequest::default());
        let outcome = self.commands.deposit(deposit, ticket).await.unwrap();
        outcome.answer.unwrap();
    }

    async fn pay(&self, from: UserId, to: UserId, key: &str, minor: i64) -> Result<Outcome, Error> {
        let request = TransferRequest {
            description: format!("{minor} to {to}"),
            ..Default::default()
        };
        let transfer = TransferFunds {
            payer: from,
            payer_verified: true,
            to: PayeeRef::User(to),
            amount: Amount::parse(minor, inr()).unwrap(),
            description: request.description.clone(),
            category: Categories::new(&[]).parse("").unwrap(),
        };
        let ticket = ticket(from, TRANSFER, key, &request);
        self.commands.transfer_funds(transfer, ticket).await
    }

    fn meet(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.next.lock().unwrap().extend(faults);
    }

    async fn balance(&self, user: UserId) -> i64 {
        let reader = self.work.db().reader();
        accounts::of_user(reader, user).await.unwrap()[0]
            .account
            .posted_minor
    }

    /// Ben has this much, every fault was met, and the ledger adds up.
    async fn assert_ben_has(&self, minor: i64) {
        assert_eq!(self.balance(BEN).await, minor);
        assert!(self.faults.next.lock().unwrap().is_empty());
        let report = verify_ledger(self.work.db()).await.unwrap();
        assert!(report.is_clean(), "{report}");
    }

    async fn stop(self) {
        let tasks = self.platform.handles().tasks;
        drop(self.commands);
        assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
    }
}

fn inr() -> Currency {
    Currency::parse("INR").unwrap()
}

fn ticket(user: UserId, method: &'static str, key: &str, request: &TransferRequest) -> Ticket {
    Ticket {
        key: RequestKey::parse(user.0, method, key, request).unwrap(),
        encode: |view| view.id.to_string().into_bytes(),
        traceparent: None,
        deadline: Instant::now() + Duration::from_secs(30),
    }
}

fn first(outcome: Result<Outcome, Error>) {
    let outcome = outcome.unwrap();
    outcome.answer.unwrap();
    assert!(!outcome.replayed, "nobody was told before");
}

fn replayed(outcome: Result<Outcome, Error>) {
    let outcome = outcome.unwrap();
    outcome.answer.unwrap();
    assert!(outcome.replayed);
}

fn unknown(outcome: Result<Outcome, Error>) {
    assert_eq!(outcome.unwrap_err().reason(), "outcome_unknown");
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_done_once_and_told_as_the_first_time() {
    let wallet = Wallet::start().await;
    let faults = [
        Fault::Done(Kind::Unavailable),
        Fault::Done(Kind::Internal),
        Fault::NotDone(Kind::Unavailable),
        Fault::NotDone(Kind::Internal),
        Fault::SilentlyDone,
        Fault::Silence,
    ];
    let mut had = 100;
    for (n, fault) in faults.into_iter().enumerate() {
        wallet.meet([fault]);
        first(wallet.pay(ASHA, BEN, &format!("k{n}"), 10).await);
        had += 10;
        wallet.assert_ben_has(had).await;
        replayed(wallet.pay(ASHA, BEN, &format!("k{n}"), 10).await);
        wallet.assert_ben_has(had).await;
    }
    wallet.stop().await;
}

#[tokio::test]
async fn a_commit_that_is_lost_again_and_again_leaves_an_open_outcome_and_a_safe_key() {
    let wallet = Wallet::start().await;
    wallet.meet([Fault::NotDone(Kind::Internal); 3]);
    unknown(wallet.pay(ASHA, BEN, "k", 10).await);
    wallet.assert_ben_has(100).await;
    first(wallet.pay(ASHA, BEN, "k", 10).await);

    wallet.meet([Fault::Done(Kind::Internal); 3]);
    unknown(wallet.pay(ASHA, BEN, "l", 10).await);
    wallet.assert_ben_has(120).await;
    replayed(wallet.pay(ASHA, BEN, "l", 10).await);
    wallet.assert_ben_has(120).await;
    wallet.stop().await;
}

#[tokio::test]
async fn what_was_told_before_stays_a_replay_when_the_commit_is_lost() {
    let wallet = Wallet::start().await;
    first(wallet.pay(ASHA, BEN, "old", 10).await);
    wallet.meet([Fault::Done(Kind::Unavailable)]);
    let (old, new, twin) = tokio::join!(
        wallet.pay(ASHA, BEN, "old", 10),
        wallet.pay(ASHA, BEN, "new", 10),
        wallet.pay(ASHA, BEN, "new", 10),
    );
    replayed(old);
    first(new);
    replayed(twin);
    wallet.assert_ben_has(120).await;
    wallet.stop().await;
}

#[tokio::test]
async fn a_lost_commit_is_not_forgotten_when_the_batch_is_halved() {
    let wallet = Wallet::start().await;
    wallet.meet([Fault::DoneAndSpoilt]);
    let (one, spoilt, two, three) = tokio::join!(
        wallet.pay(ASHA, BEN, "one", 10),
        wallet.pay(CHI, BEN, "spoilt", 10),
        wallet.pay(ASHA, BEN, "two", 10),
        wallet.pay(ASHA, BEN, "three", 10),
    );
    for outcome in [one, two, three] {
        first(outcome);
    }
    // It was done with the others, but that cannot be read any more.
    unknown(spoilt);
    assert_eq!(wallet.balance(BEN).await, 140);
    wallet.stop().await;
}
