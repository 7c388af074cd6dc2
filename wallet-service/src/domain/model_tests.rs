//! The ledger against a simple reference: random orders, and what must hold after each.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const USERS: u128 = 5;
const EXTERNAL: AccountId = AccountId(Uuid::from_u128(1_000));

fn inr() -> Currency {
    Currency::parse("INR").unwrap()
}

fn account_of(user: u128) -> AccountId {
    AccountId(Uuid::from_u128(100 + user))
}

fn account(id: AccountId, owner: Owner, posted_minor: i64) -> Account {
    let floor_minor = matches!(owner, Owner::User(_)).then_some(0);
    Account {
        id,
        owner,
        currency: inr(),
        posted_minor,
        pending_minor: 0,
        floor_minor,
        version: 0,
        status: AccountStatus::Open,
    }
}

fn ledger() -> Ledger {
    let users =
        (0..USERS).map(|n| account(account_of(n), Owner::User(UserId(Uuid::from_u128(n))), 0));
    Ledger::new(users.chain([account(EXTERNAL, Owner::External("sandbox".into()), 0)]))
}

#[derive(Debug, Clone)]
enum Step {
    Deposit { user: u128, minor: i64 },
    Transfer { from: u128, to: u128, minor: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let minor = prop_oneof![1..500_i64, Just(MAX_AMOUNT_MINOR)];
    prop_oneof![
        (0..USERS + 1, minor.clone()).prop_map(|(user, minor)| Step::Deposit { user, minor }),
        // One user more than there are: a payee whom nobody knows.
        (0..USERS, 0..USERS + 1, minor).prop_map(|(from, to, minor)| Step::Transfer {
            from,
            to,
            minor
        }),
    ]
}

fn apply(ledger: &mut Ledger, n: usize, step: &Step) -> Result<Posting, Refusal> {
    let transaction = TransactionId(Uuid::from_u128(10_000 + n as u128));
    match *step {
        Step::Deposit { user, minor } => DepositOrder {
            transaction,
            external: EXTERNAL,
            target: match user < USERS {
                true => DepositTarget::Account(account_of(user)),
                false => DepositTarget::NotTheirs,
            },
            amount: Amount::parse(minor, inr()).unwrap(),
        }
        .decide(ledger),
        Step::Transfer { from, to, minor } => TransferOrder {
            transaction,
            payer: UserId(Uuid::from_u128(from)),
            payer_account: Some(account_of(from)),
            payee: (to < USERS).then(|| TransferPayee {
                user: UserId(Uuid::from_u128(to)),
                account: Some(account_of(to)),
            }),
            amount: Amount::parse(minor, inr()).unwrap(),
        }
        .decide(ledger),
    }
}

/// What a bookkeeper with wide paper would answer.
fn expect(balances: &mut BTreeMap<u128, i128>, step: &Step) -> Option<Refusal> {
    match *step {
        Step::Deposit { user, .. } if user >= USERS => Some(Refusal::AccountNotFound),
        Step::Deposit { user, minor } => {
            *balances.entry(user).or_default() += i128::from(minor);
            None
        }
        Step::Transfer { to, .. } if to >= USERS => Some(Refusal::PayeeNotFound),
        Step::Transfer { from, to, .. } if from == to => Some(Refusal::SelfTransfer),
        Step::Transfer { from, to, minor } => {
            let balance = balances.entry(from).or_default();
            if *balance < i128::from(minor) {
                return Some(Refusal::InsufficientFunds);
            }
            *balance -= i128::from(minor);
            *balances.entry(to).or_default() += i128::from(minor);
            None
        }
    }
}

proptest! {
    #[test]
    fn random_orders_end_as_the_reference_says(steps in prop::collection::vec(step(), 1..200)) {
        let mut ledger = ledger();
        let mut reference = BTreeMap::new();
        let mut books: BTreeMap<AccountId, Vec<Entry>> = BTreeMap::new();
        for (n, step) in steps.iter().enumerate() {
            let before: Vec<Account> = ledger.accounts().cloned().collect();
            let outcome = apply(&mut ledger, n, step);
            prop_assert_eq!(outcome.as_ref().err().copied(), expect(&mut reference, step));
            match outcome {
                Ok(posting) => {
                    prop_assert_eq!(posting.entries.iter().map(|e| e.amount_minor).sum::<i64>(), 0);
                    for entry in posting.entries {
                        books.entry(entry.account).or_default().push(entry);
                    }
                }
                Err(_) => {
                    let after: Vec<Account> = ledger.accounts().cloned().collect();
                    prop_assert_eq!(before, after, "a refusal changes nothing");
                }
            }
        }
        prop_assert_eq!(ledger.accounts().map(|a| i128::from(a.posted_minor)).sum::<i128>(), 0);
        for account in ledger.accounts() {
            let book = books.remove(&account.id).unwrap_or_default();
            let versions: Vec<i64> = book.iter().map(|entry| entry.version).collect();
            prop_assert_eq!(versions, (1..=account.version).collect::<Vec<_>>());
            prop_assert_eq!(book.iter().map(|e| e.amount_minor).sum::<i64>(), account.posted_minor);
            prop_assert_eq!(book.last().map_or(0, |e| e.balance_minor), account.posted_minor);
            if account.user().is_some() {
                prop_assert!(account.available_minor() >= 0);
            }
        }
        for (user, balance) in reference {
            let posted = ledger.account(account_of(user)).unwrap().posted_minor;
            prop_assert_eq!(i128::from(posted), balance);
        }
    }
}

#[test]
fn a_balance_that_would_overflow_is_refused_on_both_sides() {
    let rich = account(
        account_of(0),
        Owner::User(UserId(Uuid::from_u128(0))),
        i64::MAX - 10,
    );
    let poor = account(EXTERNAL, Owner::External("sandbox".into()), i64::MIN + 10);
    let mut ledger = Ledger::new([rich, poor.clone()]);
    let order = |target, external| DepositOrder {
        transaction: TransactionId(Uuid::from_u128(1)),
        external,
        target: DepositTarget::Account(target),
        amount: Amount::parse(11, inr()).unwrap(),
    };
    assert_eq!(
        order(account_of(0), EXTERNAL).decide(&mut ledger),
        Err(Refusal::AmountOverflow),
        "the debt of the world outside has an end"
    );
    let fresh = account(EXTERNAL, Owner::External("sandbox".into()), 0);
    let mut ledger = Ledger::new([ledger.account(account_of(0)).unwrap().clone(), fresh]);
    assert_eq!(
        order(account_of(0), EXTERNAL).decide(&mut ledger),
        Err(Refusal::AmountOverflow)
    );
}

#[test]
fn a_frozen_account_neither_gives_nor_takes() {
    let mut frozen = account(account_of(0), Owner::User(UserId(Uuid::from_u128(0))), 100);
    frozen.status = AccountStatus::Frozen;
    let open = account(account_of(1), Owner::User(UserId(Uuid::from_u128(1))), 100);
    let mut ledger = Ledger::new([frozen, open]);
    for (from, to) in [(0, 1), (1, 0)] {
        let step = Step::Transfer { from, to, minor: 1 };
        assert_eq!(apply(&mut ledger, 0, &step), Err(Refusal::AccountFrozen));
    }
}

#[test]
fn what_is_reserved_cannot_be_spent() {
    let mut holder = account(account_of(0), Owner::User(UserId(Uuid::from_u128(0))), 100);
    holder.pending_minor = 60;
    let other = account(account_of(1), Owner::User(UserId(Uuid::from_u128(1))), 0);
    let mut ledger = Ledger::new([holder, other]);
    let pay = |minor| Step::Transfer {
        from: 0,
        to: 1,
        minor,
    };
    assert_eq!(
        apply(&mut ledger, 0, &pay(41)),
        Err(Refusal::InsufficientFunds)
    );
    assert!(apply(&mut ledger, 1, &pay(40)).is_ok());
}

#[test]
fn money_does_not_change_its_currency_on_the_way() {
    let usd = Currency::parse("USD").unwrap();
    let mut foreign = account(account_of(1), Owner::User(UserId(Uuid::from_u128(1))), 0);
    foreign.currency = usd;
    let payer = account(account_of(0), Owner::User(UserId(Uuid::from_u128(0))), 100);
    let mut ledger = Ledger::new([payer, foreign]);
    let step = Step::Transfer {
        from: 0,
        to: 1,
        minor: 1,
    };
    assert_eq!(apply(&mut ledger, 0, &step), Err(Refusal::CurrencyMismatch));
}
