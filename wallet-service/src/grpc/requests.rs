//! Proto to domain: every field that is wrong is named, all at once.

use platform::{Error, FieldViolation, email, id, time};
use proto::wallet::v1 as wire;
use proto::wallet::v1::payee::By;

use crate::domain::{AccountId, Amount, Categories, Category, Currency, PayeeRef, UserId};
use crate::queries::{Direction, HistoryFilter, STATUSES};

/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 500;
/// Longest name that is looked for, in bytes.
const MAX_NAME: usize = 64;

/// A transfer whose fields are sound.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) to: PayeeRef,
    pub(super) amount: Amount,
    pub(super) description: String,
    pub(super) category: Category,
}

/// Collects what is wrong, so that a caller learns of everything at once.
#[derive(Default)]
struct Violations(Vec<FieldViolation>);

impl Violations {
    fn take<T>(&mut self, parsed: Result<T, Error>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.extend_from_slice(error.violations());
                None
            }
        }
    }
}

pub(super) fn currency(field: &str, code: &str) -> Result<Currency, Error> {
    Currency::parse(code)
        .ok_or_else(|| Error::invalid_field(field, "must be an ISO 4217 code in capitals"))
}

pub(super) fn deposit(asked: &wire::DepositRequest) -> Result<(Amount, Option<AccountId>), Error> {
    let mut violations = Violations::default();
    let amount = violations.take(amount(asked.amount.as_ref()));
    let account = match asked.account_id.as_str() {
        "" => Some(None),
        text => violations
            .take(id::parse("account_id", text))
            .map(|id| Some(AccountId(id))),
    };
    match (amount, account) {
        (Some(amount), Some(account)) => Ok((amount, account)),
        _ => Err(Error::invalid(violations.0)),
    }
}

pub(super) fn transfer(
    asked: wire::TransferRequest,
    categories: &Categories,
    email_hash: impl Fn(&str) -> Vec<u8>,
) -> Result<Transfer, Error> {
    let mut violations = Violations::default();
    let to = violations.take(payee(asked.to.and_then(|to| to.by), email_hash));
    let amount = violations.take(amount(asked.amount.as_ref()));
    let description = violations.take(description(asked.description));
    let category = categories
        .parse(&asked.category)
        .ok_or_else(|| Error::invalid_field("category", "is not one of the categories"));
    let category = violations.take(category);
    match (to, amount, description, category) {
        (Some(to), Some(amount), Some(description), Some(category)) => Ok(Transfer {
            to,
            amount,
            description,
            category,
        }),
        _ => Err(Error::invalid(violations.0)),
    }
}

pub(super) fn history(asked: &wire::ListTransactionsRequest) -> Result<HistoryFilter, Error> {
    let mut violations = Violations::default();
    let direction = violations.take(match asked.direction.as_str() {
        "" => Ok(None),
        "in" => Ok(Some(Direction::In)),
        "out" => Ok(Some(Direction::Out)),
        _ => Err(Error::invalid_field("direction", "must be in or out")),
    });
    let status = violations.take(match asked.status.as_str() {
        "" => Ok(None),
        known if STATUSES.contains(&known) => Ok(Some(known.to_owned())),
        _ => Err(Error::invalid_field(
            "status",
            format!("must be one of {}", STATUSES.join(", ")),
        )),
    });
    // A category that is no longer on the list may still stand in the history.
    let category = violations.take(name("category", &asked.category));
    let since = violations
        .take(time::from_proto("from", &asked.from))
        .flatten();
    let until = violations.take(time::from_proto("to", &asked.to)).flatten();
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        violations
            .0
            .push(FieldViolation::new("from", "must not be after to"));
    }
    let account = violations
        .take(optional_id("account_id", &asked.account_id))
        .flatten();
    let other = violations.take(optional_id(
        "counterparty_user_id",
        &asked.counterparty_user_id,
    ));
    if !violations.0.is_empty() {
        return Err(Error::invalid(violations.0));
    }
    Ok(HistoryFilter {
        direction: direction.flatten(),
        category: category.flatten(),
        status: status.flatten(),
        since,
        until,
        account: account.map(AccountId),
        counterparty: other.flatten().map(UserId),
    })
}

fn amount(asked: Option<&wire::Money>) -> Result<Amount, Error> {
    let asked = asked.ok_or_else(|| Error::invalid_field("amount", "is missing"))?;
    let mut violations = Violations::default();
    let currency = violations.take(currency("amount.currency", &asked.currency));
    // The bounds are the same in every currency, so both fields are checked at once.
    let any = currency.or_else(|| Currency::all().next());
    let parsed = any.map(|any| Amount::parse(asked.amount_minor, any));
    if let Some(Err(error)) = parsed {
        violations.0.push(FieldViolation::new(
            "amount.amount_minor",
            error.to_string(),
        ));
    }
    match (currency, parsed) {
        (Some(_), Some(Ok(amount))) => Ok(amount),
        _ => Err(Error::invalid(violations.0)),
    }
}

fn payee(by: Option<By>, email_hash: impl Fn(&str) -> Vec<u8>) -> Result<PayeeRef, Error> {
    match by {
        None => Err(Error::invalid_field(
            "to",
            "must have exactly one of handle, email and user_id",
        )),
        Some(By::Handle(handle)) => {
            // As the search for people takes it: in either case, with spaces and hyphens wherever they help to read.
            let handle = handle.replace([' ', '-'], "");
            match name("to.handle", handle.trim())? {
                Some(handle) => Ok(PayeeRef::Handle(handle.to_ascii_uppercase())),
                None => Err(Error::invalid_field("to.handle", "is empty")),
            }
        }
        Some(By::Email(address)) => match email::validate("to.email", &address) {
            Ok(address) => Ok(PayeeRef::EmailHash(email_hash(&address))),
            Err(violation) => Err(Error::invalid(vec![violation])),
        },
        Some(By::UserId(user)) => Ok(PayeeRef::User(UserId(id::parse("to.user_id", &user)?))),
    }
}

fn description(text: String) -> Result<String, Error> {
    if text.chars().count() > MAX_DESCRIPTION {
        let most = format!("must have at most {MAX_DESCRIPTION} characters");
        return Err(Error::invalid_field("description", most));
    }
    if text
        .chars()
        .any(|one| one.is_control() && one != '\n' && one != '\t')
    {
        return Err(Error::invalid_field(
            "description",
            "must not have control characters",
        ));
    }
    Ok(text)
}

/// A short name of visible ASCII characters; empty means none.
fn name(field: &str, text: &str) -> Result<Option<String>, Error> {
    match text {
        "" => Ok(None),
        _ if text.len() <= MAX_NAME && text.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Some(text.to_owned()))
        }
        _ => {
            let rule = format!("must have at most {MAX_NAME} visible ASCII characters");
            Err(Error::invalid_field(field, rule))
        }
    }
}

fn optional_id(field: &str, text: &str) -> Result<Option<uuid::Uuid>, Error> {
    match text {
        "" => Ok(None),
        _ => id::parse(field, text).map(Some),
    }
}
