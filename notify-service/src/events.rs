//! What this service consumes: facts to what people are told. It emits none.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use platform::event_bus::{Envelope, HandleError, Handler, decode};
use platform::keys::Keys;
use platform::work::UnitOfWork;
use platform::{Kind, id, time};
use proto::identity::v1::{MailRequested, SessionRevoked, UserRegistered};
use proto::scheduler::v1::SmsScheduleFinished;
use proto::subscriptions::NOTIFY;
use proto::wallet::v1 as wallet;
use proto::wallet::v1::{DepositPosted, TransferPosted, TransferRefused};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::commands::gather;
use crate::commands::queue_mail::queue_mail;
use crate::domain::money::Money;
use crate::domain::movement::{Deposit, Person, Refusal, Side, Transfer};
use crate::domain::notification::Draft;
use crate::domain::telling;
use crate::pokes::Pokes;
use crate::storage::mails::NewMail;
use crate::templates;

/// Longest text that a field of an event may have, in bytes.
const MAX_TEXT: usize = 200;

/// Works facts into inboxes, streams and mails.
pub(crate) struct Facts {
    pub(crate) pokes: Arc<Pokes>,
    /// Opens mails to see whether that can be done.
    pub(crate) keys: Arc<Keys>,
    /// Wakes the mail worker.
    pub(crate) mail: Arc<Notify>,
}

#[async_trait]
impl Handler for Facts {
    fn types(&self) -> &'static [&'static str] {
        NOTIFY.types
    }

    async fn prepare(&self, unit: &mut UnitOfWork, events: &[Envelope]) -> Result<(), HandleError> {
        let users = events.iter().flat_map(about).collect();
        Ok(gather::look_up(unit, users).await?)
    }

    async fn handle(&self, unit: &mut UnitOfWork, event: &Envelope) -> Result<(), HandleError> {
        match event.r#type.as_str() {
            "identity.v1.UserRegistered" => self.user_registered(unit, event).await,
            "identity.v1.MailRequested" => self.mail_requested(unit, event).await,
            "identity.v1.SessionRevoked" => self.session_revoked(unit, event).await,
            "wallet.v1.DepositPosted" => self.deposit_posted(unit, event).await,
            "wallet.v1.TransferPosted" => self.transfer_posted(unit, event).await,
            "wallet.v1.TransferRefused" => self.transfer_refused(unit, event).await,
            "scheduler.v1.SmsScheduleFinished" => self.schedule_finished(unit, event).await,
            other => Err(HandleError::Poison(format!("{other} is not taken here"))),
        }
    }

    async fn finish(&self, unit: &mut UnitOfWork) -> Result<(), HandleError> {
        Ok(gather::write(unit, &self.pokes).await?)
    }
}

impl Facts {
    async fn user_registered(
        &self,
        unit: &mut UnitOfWork,
        event: &Envelope,
    ) -> Result<(), HandleError> {
        let fact: UserRegistered = decode(event)?;
        let handle = text("handle", &fact.handle)?;
        if handle.is_empty() {
            return Err(HandleError::Poison("a user has a handle".to_owned()));
        }
        let person = Person {
            user_id: uuid("user_id", &fact.user_id)?,
            handle,
        };
        gather::name(unit, person, fact.version);
        Ok(())
    }

    async fn mail_requested(
        &self,
        unit: &mut UnitOfWork,
        event: &Envelope,
    ) -> Result<(), HandleError> {
        let fact: MailRequested = decode(event)?;
        if !templates::NAMES.contains(&fact.template.as_str()) {
            return Err(HandleError::Poison(format!(
                "{:?} is no template",
                fact.template
            )));
        }
        let expires_at = time::from_proto("expires_at", &fact.expires_at)
            .ok()
            .flatten()
            .ok_or_else(|| HandleError::Poison("expires_at is missing or no time".to_owned()))?;
        // A mail that nobody can open is for an operator to look at, who can send it again once the key is back.
        if expires_at > unit.now() {
            self.keys
                .open_mail(&fact.sealed, fact.user_id.as_bytes())
                .map_err(|error| match error.kind() {
                    Kind::InvalidArgument => HandleError::Poison(error.to_string()),
                    _ => error.into(),
                })?;
        }
        let mail = NewMail {
            id: id::new(unit.now()),
            event_id: uuid("id", &event.id)?,
            user_id: person(&fact.user_id)?,
            template: fact.template,
            locale: text("locale", &fact.locale)?,
            sealed: fact.sealed,
            expires_at,
            traceparent: trace(event).to_owned(),
        };
        Ok(queue_mail(unit, mail, &self.mail).await?)
    }

    async fn session_revoked(
        &self,
        unit: &mut UnitOfWork,
        event: &Envelope,
    ) -> Result<(), HandleError> {
        let fact: SessionRevoked = decode(event)?;
        if fact.reason != "refresh_token_reused" {
            // Who signs out knows it.
            return Ok(());
        }
        let draft = Draft::refresh_token_reused(uuid("session_id", &fact.session_id)?);
        self.notify(unit, event, &fact.user_id, draft).await
    }

    async fn deposit_posted(
        &self,
        unit: &mut UnitOfWork,
        event: &Envelope,
    ) -> Result<(), HandleError> {
        let fact: DepositPosted = decode(event)?;
        let deposit = Deposit {
            transaction_id: uuid("transaction_id", &fact.transaction_id)?,
            amount: money(fact.amount)?,
            to: side("to", fact.to)?,
            at: happened(event, unit)?,
        };
        gather::tell(unit, telling::of_deposit(&deposit), trace(event));
        Ok(())
    }

    async fn transfer_posted(
        &self,
        unit: &mut UnitOfWork,
        event: &Envelope,
    ) -> Result<(), HandleError> {
        let fact: TransferPosted = decode(event)?;
        let transfer = Transfer {
            transaction_id: uuid("transaction_id", &fact.transaction_id)?,
            amount: money(fact.amount)?,
            from: side("from", fact.from)?,
            to: side("to", fact.to)?,
            category: text("category", &fact.category)?,
            at: happened(event, unit)?,
        };
        Ok(gather::tell_transfer(unit, &transfer, trace(event))?)
    }

    async fn transfer_refused(
        &self,
        unit: &mut UnitOfWork,
        event: &Envelope,
    ) -> Result<(), HandleError> {
        let fact: TransferRefused = decode(event)?;
        let refusal = Refusal {
            transaction_id: uuid("transaction_id", &fact.transaction_id)?,
            user_id: uuid("user_id", &fact.user_id)?,
            amount: money(fact.amount)?,
            reason: text("reason", &fact.reason)?,
            at: happened(event, unit)?,
        };
        gather::tell(unit, telling::of_refusal(&refusal), trace(event));
        Ok(())
    }

    async fn schedule_finished(
        &self,
        unit: &mut UnitOfWork,
        event: &Envelope,
    ) -> Result<(), HandleError> {
        let fact: SmsScheduleFinished = decode(event)?;
        let schedule_id = uuid("schedule_id", &fact.schedule_id)?;
        let draft =
            Draft::sms_schedule_finished(schedule_id, &fact.status, fact.total, fact.delivered);
        self.notify(unit, event, &fact.user_id, draft).await
    }

    /// A notification and nothing else.
    async fn notify(
        &self,
        unit: &mut UnitOfWork,
        event: &Envelope,
        user_id: &str,
        draft: Draft,
    ) -> Result<(), HandleError> {
        let user_id = uuid("user_id", user_id)?;
        let tellings = telling::of_notification(user_id, happened(event, unit)?, draft);
        gather::tell(unit, tellings, trace(event));
        Ok(())
    }
}

/// Whose rows an event changes, as far as it can be read.
fn about(event: &Envelope) -> Vec<Uuid> {
    let ids: Vec<String> = match event.r#type.as_str() {
        "identity.v1.UserRegistered" => decode(event)
            .map(|fact: UserRegistered| vec![fact.user_id])
            .unwrap_or_default(),
        "identity.v1.SessionRevoked" => decode(event)
            .map(|fact: SessionRevoked| vec![fact.user_id])
            .unwrap_or_default(),
        "wallet.v1.DepositPosted" => decode(event)
            .map(|fact: DepositPosted| fact.to.into_iter().map(|to| to.user_id).collect())
            .unwrap_or_default(),
        "wallet.v1.TransferPosted" => decode(event)
            .map(|fact: TransferPosted| {
                let sides = [fact.from, fact.to].into_iter().flatten();
                sides.map(|side| side.user_id).collect()
            })
            .unwrap_or_default(),
        "wallet.v1.TransferRefused" => decode(event)
            .map(|fact: TransferRefused| vec![fact.user_id])
            .unwrap_or_default(),
        "scheduler.v1.SmsScheduleFinished" => decode(event)
            .map(|fact: SmsScheduleFinished| vec![fact.user_id])
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    // What cannot be read is refused when it is its turn.
    ids.iter()
        .filter_map(|id| Uuid::try_parse(id).ok())
        .collect()
}

fn uuid(field: &str, text: &str) -> Result<Uuid, HandleError> {
    id::parse(field, text).map_err(|error| HandleError::Poison(error.to_string()))
}

/// Whom a mail is about: a user, or nobody.
fn person(user_id: &str) -> Result<String, HandleError> {
    if !user_id.is_empty() {
        uuid("user_id", user_id)?;
    }
    Ok(user_id.to_owned())
}

/// A short text for people, without control characters: they have no place in a line, and PostgreSQL stores no NUL.
fn text(field: &str, text: &str) -> Result<String, HandleError> {
    if text.len() > MAX_TEXT {
        return Err(HandleError::Poison(format!(
            "{field} has more than {MAX_TEXT} bytes"
        )));
    }
    Ok(text.chars().filter(|c| !c.is_control()).collect())
}

/// The trace that an event belongs to, where it is one that can be told on.
fn trace(event: &Envelope) -> &str {
    let trace = event.traceparent.as_str();
    let fits = trace.len() <= MAX_TEXT && trace.bytes().all(|b| b.is_ascii_graphic());
    if fits { trace } else { "" }
}

fn money(money: Option<wallet::Money>) -> Result<Money, HandleError> {
    let money = money.ok_or_else(|| HandleError::Poison("amount is missing".to_owned()))?;
    Money::parse(money.amount_minor, &money.currency)
        .ok_or_else(|| HandleError::Poison(format!("{:?} is no currency", money.currency)))
}

fn side(field: &str, side: Option<wallet::Side>) -> Result<Side, HandleError> {
    let side = side.ok_or_else(|| HandleError::Poison(format!("{field} is missing")))?;
    let user_id = match side.user_id.as_str() {
        "" => None,
        user_id => Some(uuid("user_id", user_id)?),
    };
    Ok(Side {
        account_id: uuid("account_id", &side.account_id)?,
        user_id,
        version: side.version,
        posted_minor: side.posted_minor,
        pending_minor: side.pending_minor,
        available_minor: side.available_minor,
    })
}

/// When the fact was committed.
fn happened(event: &Envelope, unit: &UnitOfWork) -> Result<Timestamp, HandleError> {
    let at = time::from_proto("time", &event.time)
        .map_err(|error| HandleError::Poison(error.to_string()))?;
    Ok(at.unwrap_or(unit.now()))
}

#[cfg(test)]
mod tests {
    use platform::test_kit::envelope;
    use prost::Name;

    use super::*;

    #[test]
    fn everybody_whom_a_batch_is_about_is_known_beforehand() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let side = |user: &str| {
            Some(wallet::Side {
                user_id: user.to_owned(),
                ..Default::default()
            })
        };
        let transfer = TransferPosted {
            from: side(&two.to_string()),
            to: side(&one.to_string()),
            ..Default::default()
        };
        let house = TransferPosted {
            from: side(""),
            to: side(&one.to_string()),
            ..Default::default()
        };
        let refused = TransferRefused {
            user_id: two.to_string(),
            ..Default::default()
        };
        let mut broken = envelope(Timestamp::UNIX_EPOCH, "", &refused);
        broken.data = vec![0xFF];
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(about(&envelope(now, "", &transfer)), [two, one]);
        assert_eq!(about(&envelope(now, "", &house)), [one]);
        assert_eq!(about(&envelope(now, "", &refused)), [two]);
        assert!(about(&broken).is_empty());
    }

    #[test]
    fn the_types_taken_are_those_of_the_contracts() {
        let named = [
            UserRegistered::full_name(),
            MailRequested::full_name(),
            SessionRevoked::full_name(),
            DepositPosted::full_name(),
            TransferPosted::full_name(),
            TransferRefused::full_name(),
            SmsScheduleFinished::full_name(),
        ];
        assert_eq!(NOTIFY.types, named);
    }
}
