//! Records what providers said: messages, counts, the schedule's end and the event of it in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use platform::{Error, time};
use uuid::Uuid;

use super::{MAX_SCHEDULES, Sms, save_and_settle};
use crate::domain::{MessageState, Schedule, Status};
use crate::storage::{self, messages::Position};

/// Most characters that are kept of a provider's words.
const MAX_ERROR_CHARS: usize = 200;
/// Most bytes of a provider's id of a message.
const MAX_ID_BYTES: usize = 512;

/// What a provider's word means for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The provider has it.
    Taken {
        /// The provider's id of it.
        provider_message_id: String,
    },
    /// It has come to a state.
    Became {
        /// `Enroute` or a final one.
        state: MessageState,
        /// The provider's words; empty when none.
        error: String,
    },
    /// It ends in this state because its handing over was cut off and nothing came of it.
    LeftOver {
        /// A final one.
        state: MessageState,
        /// Why.
        error: String,
    },
    /// The provider certainly never had it, or will not take it twice: it may be sent again.
    NeverTaken,
}

/// A verdict on one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) id: Uuid,
    pub(crate) set_id: Uuid,
    /// The attempt that the verdict is about.
    pub(crate) attempt: i64,
    pub(crate) verdict: Verdict,
}

/// Records outcomes. What does not fit the state that a message has come to in the meantime changes nothing. Of many
/// schedules, a bounded number in each transaction.
pub(crate) async fn record_outcomes(sms: &Sms, mut outcomes: Vec<Outcome>) -> Result<(), Error> {
    outcomes.sort_by_key(|outcome| outcome.set_id);
    while !outcomes.is_empty() {
        let mut sets = 1;
        let end = (1..outcomes.len()).find(|&at| {
            sets += usize::from(outcomes[at].set_id != outcomes[at - 1].set_id);
            sets > MAX_SCHEDULES
        });
        let rest = outcomes.split_off(end.unwrap_or(outcomes.len()));
        record_some(sms, outcomes).await?;
        outcomes = rest;
    }
    Ok(())
}

async fn record_some(sms: &Sms, outcomes: Vec<Outcome>) -> Result<(), Error> {
    let mut unit = sms.work.begin().await?;
    let now = unit.now();
    let mut sets: Vec<Uuid> = outcomes.iter().map(|outcome| outcome.set_id).collect();
    sets.sort_unstable();
    sets.dedup();
    let mut schedules: HashMap<Uuid, Schedule> = storage::schedules::lock_by_sets(unit.tx(), &sets)
        .await?
        .into_iter()
        .map(|schedule| (schedule.set_id, schedule))
        .collect();
    let ids = outcomes.iter().map(|outcome| outcome.id);
    let mut positions: HashMap<Uuid, Position> = storage::messages::positions(unit.tx(), ids)
        .await?
        .into_iter()
        .map(|position| (position.id, position))
        .collect();
    let mut changes = Changes::default();
    for outcome in outcomes {
        // Taken out, so that a message is moved once even if it were named twice.
        if let Some(position) = positions.remove(&outcome.id)
            && let Some(schedule) = schedules.get(&position.set_id)
        {
            changes.add(position, outcome, schedule.status);
        }
    }
    let settings = &sms.config.sending;
    let first_pause = Duration::from_millis(settings.first_poll_ms);
    let first_question = next_tick(now + first_pause, settings.poll_tick_ms);
    storage::messages::set_sent(unit.tx(), &changes.sent, now, first_question, first_pause).await?;
    for ((state, error), ids) in &changes.states {
        storage::messages::set_state(unit.tx(), ids, *state, error, now).await?;
    }
    for ((set_id, from, to), messages) in &changes.moves {
        if let Some(schedule) = schedules.get_mut(set_id) {
            schedule.moved(*from, *to, *messages, now);
        }
    }
    for schedule in schedules.values_mut() {
        save_and_settle(&mut unit, schedule).await?;
    }
    sms.wake(&mut unit, |wakes| &wakes.claim);
    sms.wake(&mut unit, |wakes| &wakes.follow);
    unit.commit().await
}

/// A provider's id as it is kept. One that is none is not: the provider cannot be asked for the message then, which ends as
/// `UNKNOWN` at its deadline, and is not sent again.
fn kept_id(id: String) -> String {
    if id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control) {
        return id;
    }
    tracing::error!(
        bytes = id.len(),
        "a provider's id of a message cannot be kept"
    );
    String::new()
}

/// The first multiple of `tick_ms` that is not before `at`.
pub(super) fn next_tick(at: Timestamp, tick_ms: u64) -> Timestamp {
    let tick = i64::try_from(tick_ms)
        .unwrap_or(i64::MAX / 1000)
        .saturating_mul(1000)
        .max(1);
    let at = time::to_micros(at);
    time::from_micros(
        at.saturating_add(tick - 1)
            .div_euclid(tick)
            .saturating_mul(tick),
    )
}

/// Changes, gathered by what they write.
#[derive(Default)]
struct Changes {
    sent: Vec<(Uuid, String)>,
    states: BTreeMap<(MessageState, String), Vec<Uuid>>,
    moves: BTreeMap<(Uuid, MessageState, MessageState), i64>,
}

impl Changes {
    fn add(&mut self, position: Position, outcome: Outcome, status: Status) {
        let same_attempt = position.attempt == outcome.attempt;
        let sending = position.state == MessageState::Sending;
        let to = match &outcome.verdict {
            // A fact, whichever attempt it is about.
            Verdict::Taken { .. } => MessageState::Sent,
            // Of an attempt that was given up, another word says nothing about the next one.
            _ if !same_attempt => return,
            Verdict::Became { state, .. } => *state,
            // Whoever handed it over has told in the meantime.
            Verdict::LeftOver { .. } | Verdict::NeverTaken if !sending => return,
            Verdict::LeftOver { state, .. } => *state,
            Verdict::NeverTaken if status == Status::Cancelled => MessageState::Cancelled,
            Verdict::NeverTaken => MessageState::Queued,
        };
        if !position.state.may_become(to) {
            return;
        }
        *self
            .moves
            .entry((position.set_id, position.state, to))
            .or_default() += 1;
        match outcome.verdict {
            Verdict::Taken {
                provider_message_id,
            } => {
                self.sent.push((position.id, kept_id(provider_message_id)));
            }
            Verdict::Became { error, .. } | Verdict::LeftOver { error, .. } => {
                let error = error
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(MAX_ERROR_CHARS)
                    .collect();
                self.states
                    .entry((to, error))
                    .or_default()
                    .push(position.id);
            }
            Verdict::NeverTaken => {
                self.states
                    .entry((to, String::new()))
                    .or_default()
                    .push(position.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(
        state: MessageState,
        attempts: (i64, i64),
        verdict: Verdict,
        status: Status,
    ) -> Option<MessageState> {
        let (id, set_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut changes = Changes::default();
        changes.add(
            Position {
                id,
                set_id,
                state,
                attempt: attempts.0,
            },
            Outcome {
                id,
                set_id,
                attempt: attempts.1,
                verdict,
            },
            status,
        );
        changes.moves.into_keys().next().map(|(_, _, to)| to)
    }

    fn taken() -> Verdict {
        Verdict::Taken {
            provider_message_id: "x".to_owned(),
        }
    }

    fn refused() -> Verdict {
        Verdict::Became {
            state: MessageState::Rejectd,
            error: String::new(),
        }
    }

    #[test]
    fn late_word_of_an_earlier_attempt_stops_another_send() {
        use MessageState as S;
        let running = Status::Running;
        assert_eq!(added(S::Queued, (1, 1), taken(), running), Some(S::Sent));
        assert_eq!(added(S::Sending, (2, 1), taken(), running), Some(S::Sent));
        assert_eq!(added(S::Sending, (2, 1), refused(), running), None);
        assert_eq!(added(S::Queued, (1, 1), refused(), running), None);
        assert_eq!(
            added(S::Sending, (2, 1), Verdict::NeverTaken, running),
            None
        );
    }

    #[test]
    fn what_was_never_taken_waits_again_unless_cancelled() {
        use MessageState as S;
        let never = Verdict::NeverTaken;
        assert_eq!(
            added(S::Sending, (1, 1), never.clone(), Status::Running),
            Some(S::Queued)
        );
        assert_eq!(
            added(S::Sending, (1, 1), never.clone(), Status::Cancelled),
            Some(S::Cancelled)
        );
        assert_eq!(added(S::Sent, (1, 1), never, Status::Running), None);
    }

    #[test]
    fn what_was_left_over_ends_only_in_the_hands_of_that_attempt() {
        use MessageState as S;
        let over = || Verdict::LeftOver {
            state: S::Expired,
            error: String::new(),
        };
        let running = Status::Running;
        assert_eq!(added(S::Sending, (1, 1), over(), running), Some(S::Expired));
        assert_eq!(added(S::Sending, (2, 1), over(), running), None);
        assert_eq!(added(S::Sent, (1, 1), over(), running), None);
        assert_eq!(added(S::Sent, (2, 1), refused(), running), None);
    }

    #[test]
    fn ids_that_no_database_takes_are_not_kept() {
        assert_eq!(kept_id("a-1".to_owned()), "a-1");
        assert_eq!(kept_id("a\0b".to_owned()), "");
        assert_eq!(kept_id("x".repeat(513)), "");
    }

    #[test]
    fn final_states_stay() {
        for state in MessageState::ALL
            .into_iter()
            .filter(|state| state.is_final())
        {
            assert_eq!(added(state, (1, 1), taken(), Status::Running), None);
            assert_eq!(added(state, (1, 1), refused(), Status::Running), None);
        }
    }

    #[test]
    fn questions_wait_for_the_tick() {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        assert_eq!(next_tick(at(1001), 100), at(1100));
        assert_eq!(next_tick(at(1100), 100), at(1100));
    }
}
