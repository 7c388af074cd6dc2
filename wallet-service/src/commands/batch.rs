//! One batch of orders as one transaction.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use platform::idempotency::{self, Claim};
use platform::work::{Answer, RequestKey, UnitOfWork, Work};
use platform::{Error, id, time};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{Encode, Outcome, Ticket, account_not_ready};
use crate::domain::{
    AccountId, Amount, Categories, Category, DepositOrder, DepositTarget, Entry, Ledger, PayeeRef,
    Posting, Refusal, TransactionId, TransferOrder, TransferPayee, UserId,
};
use crate::events;
use crate::queries::{TransactionView, transaction_view};
use crate::storage::accounts::{self, Directory, Opened};
use crate::storage::payees::{self, Payees};
use crate::storage::transactions::{self, Side, TransactionKind, TransactionRecord};

/// What somebody wants done, once.
#[derive(Debug)]
pub(super) struct Order {
    user: UserId,
    amount: Amount,
    intent: Intent,
    key: RequestKey,
    encode: Encode<TransactionView>,
    traceparent: Option<String>,
}

/// What kind of movement.
#[derive(Debug)]
pub(super) enum Intent {
    Deposit {
        account: Option<AccountId>,
        external: AccountId,
        source: String,
    },
    Transfer {
        to: PayeeRef,
        description: String,
        category: Category,
    },
}

impl Order {
    pub(super) fn new(user: UserId, amount: Amount, intent: Intent, ticket: &Ticket) -> Self {
        Self {
            user,
            amount,
            intent,
            key: ticket.key.clone(),
            encode: ticket.encode,
            traceparent: ticket.traceparent.clone(),
        }
    }

    pub(super) fn key(&self) -> &RequestKey {
        &self.key
    }
}

/// Why a batch came to nothing.
#[derive(Debug)]
pub(super) enum BatchError {
    /// Nothing was done.
    RolledBack(Error),
    /// COMMIT gave no good answer; the keys tell what was done.
    CommitFailed {
        error: Error,
        /// What would have been told after a good answer, in the order of the orders.
        untold: Outcomes,
    },
}

/// What came of each order of a batch.
pub(super) type Outcomes = Vec<Result<Outcome, Error>>;

impl From<Error> for BatchError {
    fn from(error: Error) -> Self {
        Self::RolledBack(error)
    }
}

/// How a batch is committed: the step at which a connection is lost most painfully.
#[async_trait::async_trait]
pub(super) trait Commit: Send + Sync + 'static {
    /// Commits `unit`. After an error it is open whether it did.
    async fn commit(&self, unit: UnitOfWork) -> Result<(), Error>;
}

/// Commits to the database.
pub(super) struct CommitNow;

#[async_trait::async_trait]
impl Commit for CommitNow {
    async fn commit(&self, unit: UnitOfWork) -> Result<(), Error> {
        unit.commit().await
    }
}

/// Decides all orders and commits what came of them, within `patience`. The outcomes stand in the order of `orders`.
pub(super) async fn post(
    work: &Work,
    commit: &dyn Commit,
    orders: &[&Order],
    patience: Duration,
) -> Result<Outcomes, BatchError> {
    let deadline = Instant::now() + patience;
    let too_slow = || {
        Error::unavailable(
            "database_unavailable",
            "the database does not answer in time",
        )
    };
    // Given up here, the transaction is dropped without a COMMIT: nothing was done.
    let (unit, outcomes) = timeout_at(deadline, decide(work, orders))
        .await
        .map_err(|_| too_slow())??;
    let committed = timeout_at(deadline, commit.commit(unit)).await;
    match committed.unwrap_or_else(|_| Err(too_slow())) {
        Ok(()) => Ok(outcomes),
        Err(error) => Err(BatchError::CommitFailed {
            error,
            untold: outcomes,
        }),
    }
}

/// Decides all orders; what came of them holds once the unit is committed.
async fn decide(work: &Work, orders: &[&Order]) -> Result<(UnitOfWork, Outcomes), Error> {
    let mut unit = work.begin().await?;
    let known = Known::read(&unit, orders).await?;
    // An order whose account is still to be opened is set aside before its key is touched.
    let ready: Vec<usize> = (0..orders.len())
        .filter(|&at| known.accounts.knows(orders[at].user))
        .collect();
    let keys: Vec<&RequestKey> = ready.iter().map(|&at| &orders[at].key).collect();
    let claims = idempotency::claim(unit.tx(), &keys, unit.now()).await?;

    let fresh: Vec<Planned<'_>> = ready
        .iter()
        .zip(&claims)
        .filter(|(_, claim)| matches!(claim, Claim::Fresh))
        .map(|(&at, _)| known.plan(at, orders[at]))
        .collect();
    let answers = decide_and_save(work, &mut unit, &known, fresh).await?;
    let stored: Vec<(&RequestKey, &Answer)> = answers
        .iter()
        .map(|(&at, answer)| (&orders[at].key, answer))
        .collect();
    idempotency::store(unit.tx(), &stored, unit.now()).await?;

    let mut outcomes: Outcomes = orders.iter().map(|_| Err(account_not_ready())).collect();
    for (&at, claim) in ready.iter().zip(claims) {
        outcomes[at] = outcome(at, claim, &ready, &answers);
    }
    Ok((unit, outcomes))
}

fn outcome(
    at: usize,
    claim: Claim,
    ready: &[usize],
    answers: &HashMap<usize, Answer>,
) -> Result<Outcome, Error> {
    let (place, replayed) = match claim {
        Claim::Replayed(answer) => {
            return Ok(Outcome {
                answer,
                replayed: true,
            });
        }
        Claim::Reused => return Err(idempotency::reused()),
        Claim::Fresh => (Some(at), false),
        Claim::Duplicate(first) => (ready.get(first).copied(), true),
    };
    let answer = place.and_then(|place| answers.get(&place)).cloned();
    let answer =
        answer.ok_or_else(|| Error::internal(anyhow::anyhow!("a claimed key has no answer")))?;
    Ok(Outcome { answer, replayed })
}

/// What the orders speak of. Users keep their accounts and handles, so it is read without locks.
struct Known {
    payees: Payees,
    accounts: Directory,
}

/// What a transaction is called until it is its turn.
const UNNAMED: TransactionId = TransactionId(Uuid::nil());

/// An order with the accounts behind its names.
struct Planned<'a> {
    at: usize,
    order: &'a Order,
    transaction: TransactionId,
    step: Step,
    /// Who is to take the money, as far as known.
    taker: Option<UserId>,
}

enum Step {
    Deposit(DepositOrder),
    Transfer(TransferOrder),
}

impl Known {
    async fn read(unit: &UnitOfWork, orders: &[&Order]) -> Result<Self, Error> {
        let mut names = Vec::with_capacity(orders.len() * 2);
        for order in orders {
            names.push(PayeeRef::User(order.user));
            if let Intent::Transfer { to, .. } = &order.intent {
                names.push(to.clone());
            }
        }
        let payees = payees::find(unit.tx(), &names).await?;
        let mut users: BTreeSet<UserId> = orders.iter().map(|order| order.user).collect();
        users.extend(names.iter().filter_map(|name| payees.find(name)));
        let accounts = accounts::directory(unit.tx(), users).await?;
        Ok(Self { payees, accounts })
    }

    fn plan<'a>(&self, at: usize, order: &'a Order) -> Planned<'a> {
        let (user, amount) = (order.user, order.amount);
        let own = self.accounts.find(user, amount.currency());
        let (step, taker) = match &order.intent {
            Intent::Deposit {
                account, external, ..
            } => {
                let target = match (account, own) {
                    (Some(named), _) if self.accounts.owns(user, *named) => {
                        DepositTarget::Account(*named)
                    }
                    (Some(_), _) => DepositTarget::NotTheirs,
                    (None, Some(own)) => DepositTarget::Account(own),
                    (None, None) => DepositTarget::NoneInCurrency,
                };
                let external = *external;
                (
                    Step::Deposit(DepositOrder {
                        transaction: UNNAMED,
                        external,
                        target,
                        amount,
                    }),
                    Some(user),
                )
            }
            Intent::Transfer { to, .. } => {
                let taker = self.payees.find(to);
                let payee = taker.map(|payee| TransferPayee {
                    user: payee,
                    account: self.accounts.find(payee, amount.currency()),
                });
                let payer_account = own;
                let transfer = TransferOrder {
                    transaction: UNNAMED,
                    payer: user,
                    payer_account,
                    payee,
                    amount,
                };
                (Step::Transfer(transfer), taker)
            }
        };
        Planned {
            at,
            order,
            transaction: UNNAMED,
            step,
            taker,
        }
    }
}

impl Step {
    fn accounts(&self) -> [Option<AccountId>; 2] {
        match self {
            Self::Deposit(deposit) => match deposit.target {
                DepositTarget::Account(target) => [Some(deposit.external), Some(target)],
                DepositTarget::NotTheirs | DepositTarget::NoneInCurrency => [None, None],
            },
            Self::Transfer(transfer) => [
                transfer.payer_account,
                transfer.payee.and_then(|payee| payee.account),
            ],
        }
    }

    fn decide(&self, ledger: &mut Ledger) -> Result<Posting, Refusal> {
        match self {
            Self::Deposit(deposit) => deposit.decide(ledger),
            Self::Transfer(transfer) => transfer.decide(ledger),
        }
    }
}

/// Locks the accounts, lets the ledger decide each order in turn, and writes everything in bulk. Returns the answers
/// by the places of their orders.
async fn decide_and_save(
    work: &Work,
    unit: &mut UnitOfWork,
    known: &Known,
    fresh: Vec<Planned<'_>>,
) -> Result<HashMap<usize, Answer>, Error> {
    let mut answers = HashMap::with_capacity(fresh.len());
    if fresh.is_empty() {
        return Ok(answers);
    }
    let ids: BTreeSet<AccountId> = fresh
        .iter()
        .flat_map(|one| one.step.accounts())
        .flatten()
        .collect();
    let opened = match ids.is_empty() {
        true => Vec::new(),
        false => accounts::lock(unit.tx(), ids).await?,
    };
    let mut ledger = Ledger::new(opened.iter().map(|one| one.account.clone()));
    let mut records = Vec::with_capacity(fresh.len());
    let mut entries: Vec<Entry> = Vec::with_capacity(fresh.len() * 2);
    // Named once the accounts are ours: between replicas, too, the ids of an account's transactions rise like its
    // versions, as far as the clocks of the replicas agree.
    let now = work.now().max(unit.now());
    for mut planned in fresh {
        planned.name(TransactionId(id::new(now)));
        let decision = planned.step.decide(&mut ledger);
        let record = planned.record(&decision, now);
        planned.tell(unit, &record, &decision);
        let answer = match decision {
            Ok(posting) => {
                entries.extend(posting.entries);
                Ok((planned.order.encode)(
                    &planned.view(record.clone(), known)?,
                ))
            }
            Err(refusal) => Err(refusal.into()),
        };
        answers.insert(planned.at, answer);
        records.push(record);
    }
    transactions::insert(unit.tx(), &records).await?;
    transactions::insert_entries(unit.tx(), &entries, now).await?;
    accounts::save(unit.tx(), touched(&ledger, &opened)).await?;
    Ok(answers)
}

/// The accounts whose books have grown.
fn touched<'a>(ledger: &'a Ledger, before: &'a [Opened]) -> impl Iterator<Item = Opened> + 'a {
    before.iter().filter_map(|was| {
        let now = ledger.account(was.account.id)?;
        (now.version != was.account.version).then(|| Opened {
            account: now.clone(),
            created_at: was.created_at,
        })
    })
}

impl Planned<'_> {
    fn name(&mut self, transaction: TransactionId) {
        self.transaction = transaction;
        match &mut self.step {
            Step::Deposit(deposit) => deposit.transaction = transaction,
            Step::Transfer(transfer) => transfer.transaction = transaction,
        }
    }

    fn record(&self, decision: &Result<Posting, Refusal>, now: Timestamp) -> TransactionRecord {
        let order = self.order;
        let (kind, source, description, category, giver) = match &order.intent {
            Intent::Deposit { source, .. } => {
                let category = Categories::deposit();
                (
                    TransactionKind::Deposit,
                    Some(source.clone()),
                    String::new(),
                    category,
                    None,
                )
            }
            Intent::Transfer {
                description,
                category,
                ..
            } => {
                let text = description.clone();
                (
                    TransactionKind::Transfer,
                    None,
                    text,
                    category.clone(),
                    Some(order.user),
                )
            }
        };
        let [from_account, to_account] = self.step.accounts();
        let side = |user, account, balance_minor| Side {
            user,
            account,
            balance_minor,
        };
        let (status, from, to) = match decision {
            Ok(posting) => (
                "posted",
                side(giver, from_account, Some(posting.from.posted_minor)),
                side(self.taker, to_account, Some(posting.to.posted_minor)),
            ),
            Err(_) => (
                "refused",
                side(giver, from_account, None),
                side(self.taker, to_account, None),
            ),
        };
        TransactionRecord {
            id: self.transaction,
            kind,
            status: status.to_owned(),
            amount: order.amount.money(),
            from,
            to,
            source,
            description,
            category: category.as_str().to_owned(),
            reason: decision
                .as_ref()
                .err()
                .map(|refusal| refusal.reason().to_owned()),
            request_scope: order.key.scope().to_owned(),
            request_key: order.key.key().to_owned(),
            // As it will be read again: to the microsecond.
            created_at: time::from_micros(time::to_micros(now)),
        }
    }

    fn tell(
        &self,
        unit: &mut UnitOfWork,
        record: &TransactionRecord,
        decision: &Result<Posting, Refusal>,
    ) {
        let trace = self.order.traceparent.clone();
        match decision {
            Ok(posting) => events::tell_posted(unit, trace, record, posting),
            Err(refusal) if record.kind == TransactionKind::Transfer => {
                events::tell_refused(
                    unit,
                    trace,
                    record.id,
                    self.order.user,
                    record.amount,
                    *refusal,
                );
            }
            // Nobody but the depositor has anything to do with a refused deposit.
            Err(_) => {}
        }
    }

    fn view(&self, record: TransactionRecord, known: &Known) -> Result<TransactionView, Error> {
        let handle = |user| known.payees.handle(user).map(str::to_owned);
        transaction_view(record, self.order.user, handle)
            .ok_or_else(|| Error::internal(anyhow::anyhow!("an order is not its user's")))
    }
}
