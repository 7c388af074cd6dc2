//! Asks providers what became of messages: those whose sending was cut off, by our reference; those that the provider
//! has, by its id. Each question that brings nothing new puts the next one further off.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use platform::Error;
use uuid::Uuid;

use super::record_outcomes::next_tick;
use super::{Outcome, Sms, Verdict, record_outcomes};
use crate::domain::MessageState;
use crate::providers::{LookedUp, Queried, SmsProvider};
use crate::storage::{self, claims::Due};

/// Why a message ends as `UNKNOWN`.
const NO_FINAL_STATE: &str = "no final state until the deadline";

/// Asks for the messages that are due, a bounded number. Tells how many that were.
pub(crate) async fn follow_messages(sms: &Sms) -> Result<usize, Error> {
    let reader = sms.work.db().reader();
    let now = sms.work.now();
    if storage::claims::next_due(reader)
        .await?
        .is_none_or(|at| at > now)
    {
        return Ok(0);
    }
    let settings = &sms.config.sending;
    let unit = sms.work.begin().await?;
    let due = storage::claims::take_due(
        unit.tx(),
        now,
        next_tick(now, settings.poll_tick_ms),
        Duration::from_millis(settings.longest_poll_ms),
        u64::from(settings.poll_batch_size),
    )
    .await?;
    unit.commit().await?;
    let taken = due.len();
    let mut sets: Vec<Uuid> = due.iter().map(|message| message.set_id).collect();
    sets.sort_unstable();
    sets.dedup();
    let names: HashMap<Uuid, String> = storage::schedules::providers_of(reader, sets)
        .await?
        .into_iter()
        .collect();
    let mut by_provider: BTreeMap<&str, Vec<Due>> = BTreeMap::new();
    for message in due {
        // Of a call that is still under way nobody can say that it came to nothing.
        if message.state == MessageState::Sending && sms.in_flight.has(&message.id) {
            continue;
        }
        let name = names.get(&message.set_id).map_or("", String::as_str);
        by_provider.entry(name).or_default().push(message);
    }
    let asked = by_provider
        .into_iter()
        .map(|(name, messages)| ask(sms, name, messages, now));
    let outcomes = join_all(asked).await.into_iter().flatten().collect();
    record_outcomes(sms, outcomes).await?;
    Ok(taken)
}

/// Asks one provider.
async fn ask(sms: &Sms, name: &str, messages: Vec<Due>, now: Timestamp) -> Vec<Outcome> {
    let provider = sms.providers.get(name);
    let timeout = sms.config.sending.call_timeout();
    let (cut_off, sent): (Vec<Due>, Vec<Due>) = messages
        .into_iter()
        .partition(|message| message.state == MessageState::Sending);
    let mut outcomes = Vec::new();
    let dedupes = provider.is_some_and(|p| p.capabilities().dedupes_by_reference);
    let most = provider.map_or(usize::MAX, |p| p.capabilities().max_query.max(1));
    for chunk in cut_off.chunks(most) {
        let answers = look_up(provider, chunk, timeout).await;
        outcomes.extend(chunk.iter().zip(answers).filter_map(|(message, answer)| {
            verdict_on_cut_off(message, answer, dedupes, now)
                .map(|verdict| outcome(message, verdict))
        }));
    }
    for chunk in sent.chunks(most) {
        let answers = query(provider, chunk, timeout).await;
        outcomes.extend(chunk.iter().zip(answers).filter_map(|(message, answer)| {
            verdict_on_sent(message, answer, now).map(|verdict| outcome(message, verdict))
        }));
    }
    outcomes
}

fn outcome(message: &Due, verdict: Verdict) -> Outcome {
    Outcome {
        id: message.id,
        set_id: message.set_id,
        attempt: message.attempt,
        verdict,
    }
}

/// Answers to all of `messages`; where there is none, [`LookedUp::CannotTell`].
async fn look_up(
    provider: Option<&Arc<dyn SmsProvider>>,
    messages: &[Due],
    timeout: Duration,
) -> Vec<LookedUp> {
    let mut answers = Vec::new();
    if let Some(provider) = provider.filter(|p| p.capabilities().finds_by_reference) {
        let references: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
        match tokio::time::timeout(timeout, provider.lookup(&references)).await {
            Ok(given) => answers = given,
            Err(_) => {
                tracing::warn!(
                    provider = provider.name(),
                    "a provider did not answer a look-up"
                );
            }
        }
    }
    answers.resize(messages.len(), LookedUp::CannotTell);
    answers
}

/// Answers to all of `messages`; where there is none, [`Queried::NoAnswer`].
async fn query(
    provider: Option<&Arc<dyn SmsProvider>>,
    messages: &[Due],
    timeout: Duration,
) -> Vec<Queried> {
    let mut answers = Vec::new();
    if let Some(provider) = provider {
        let ids: Vec<String> = messages
            .iter()
            .map(|message| message.provider_message_id.clone().unwrap_or_default())
            .collect();
        match tokio::time::timeout(timeout, provider.query(&ids)).await {
            Ok(given) => answers = given,
            Err(_) => {
                tracing::warn!(
                    provider = provider.name(),
                    "a provider did not answer a query"
                );
            }
        }
    }
    answers.resize(messages.len(), Queried::NoAnswer);
    answers
}

fn verdict_on_cut_off(
    message: &Due,
    answer: LookedUp,
    dedupes: bool,
    now: Timestamp,
) -> Option<Verdict> {
    let late = is_late(message, now);
    match answer {
        LookedUp::Known {
            provider_message_id,
        } => Some(Verdict::Taken {
            provider_message_id,
        }),
        LookedUp::Unknown if late => Some(Verdict::LeftOver {
            state: MessageState::Expired,
            error: "could not be handed to the provider in time".to_owned(),
        }),
        LookedUp::Unknown => Some(Verdict::NeverTaken),
        LookedUp::CannotTell if late => Some(Verdict::LeftOver {
            state: MessageState::Unknown,
            error: NO_FINAL_STATE.to_owned(),
        }),
        // Should it have the message, it will not take it a second time.
        LookedUp::CannotTell => dedupes.then_some(Verdict::NeverTaken),
    }
}

fn verdict_on_sent(message: &Due, answer: Queried, now: Timestamp) -> Option<Verdict> {
    match answer {
        Queried::Became { state, error } if state.is_final() => {
            Some(Verdict::Became { state, error })
        }
        _ if is_late(message, now) => Some(Verdict::Became {
            state: MessageState::Unknown,
            error: NO_FINAL_STATE.to_owned(),
        }),
        Queried::Became { state, error } if state != message.state => {
            Some(Verdict::Became { state, error })
        }
        _ => None,
    }
}

fn is_late(message: &Due, now: Timestamp) -> bool {
    message.deadline_at.is_some_and(|deadline| deadline <= now)
}
