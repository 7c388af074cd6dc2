//! What every provider promises, as a suite that each adapter's tests run.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use uuid::Uuid;

use super::{LookedUp, Queried, SmsProvider, Submission, Submitted};
use crate::domain::MessageState;

/// Times that a state is asked for before a message counts as lost.
const MAX_ROUNDS: usize = 200;

/// Tries a provider with messages to `numbers`, which must be distinct and meet different final states, and tells each
/// promise that it broke. `wait` lets some of the time pass that messages take.
pub async fn broken_promises<W, F>(
    provider: &dyn SmsProvider,
    numbers: &[&str],
    mut wait: W,
) -> Vec<String>
where
    W: FnMut() -> F,
    F: Future<Output = ()>,
{
    let mut broken = Vec::new();
    let mut promise = |kept: bool, text: &str| {
        if !kept {
            broken.push(text.to_owned());
        }
    };
    promise(!provider.name().is_empty(), "it has a name");
    promise(
        provider.submit(&[]).await.is_empty(),
        "an empty batch has no answers",
    );
    let stranger = provider.lookup(&[Uuid::now_v7()]).await;
    promise(
        matches!(
            stranger.as_slice(),
            [LookedUp::Unknown | LookedUp::CannotTell]
        ),
        "a reference that it never saw is not known",
    );
    let text: Arc<str> = "contract".into();
    let batch: Vec<Submission> = numbers
        .iter()
        .map(|to| Submission {
            reference: Uuid::now_v7(),
            to: (*to).to_owned(),
            text: text.clone(),
        })
        .collect();
    let answers = provider.submit(&batch).await;
    promise(
        answers.len() == batch.len(),
        "each submission has its answer",
    );
    let ids: Vec<String> = answers
        .into_iter()
        .filter_map(|answer| match answer {
            Submitted::Accepted {
                provider_message_id,
            } => Some(provider_message_id),
            _ => None,
        })
        .collect();
    promise(ids.len() == batch.len(), "good numbers are accepted");
    let distinct: HashSet<&String> = ids.iter().filter(|id| !id.is_empty()).collect();
    promise(
        distinct.len() == ids.len(),
        "ids are distinct and not empty",
    );
    if provider.capabilities().dedupes_by_reference {
        let again = provider.submit(&batch).await.into_iter();
        promise(
            again.eq(ids.iter().map(|id| Submitted::Accepted {
                provider_message_id: id.clone(),
            })),
            "what it has it does not take again, and answers with the first id",
        );
    }
    if provider.capabilities().finds_by_reference {
        let references: Vec<Uuid> = batch.iter().rev().map(|s| s.reference).collect();
        let expected: Vec<LookedUp> = ids
            .iter()
            .rev()
            .map(|id| LookedUp::Known {
                provider_message_id: id.clone(),
            })
            .collect();
        promise(
            provider.lookup(&references).await == expected,
            "what it took is found by reference, in the order of the question",
        );
    }
    let alien = provider.query(&["no-id-of-yours".to_owned()]).await;
    promise(
        matches!(alien.as_slice(), [Queried::NoAnswer]),
        "an id that it never gave has no state",
    );
    let mut ends: Vec<Option<MessageState>> = vec![None; ids.len()];
    for _ in 0..MAX_ROUNDS {
        let states = provider.query(&ids).await;
        promise(states.len() == ids.len(), "each id has its state");
        for (end, state) in ends.iter_mut().zip(states) {
            let final_now = match state {
                Queried::Became { state, .. } if state.is_final() => Some(state),
                Queried::Became { state, .. } => {
                    promise(
                        state == MessageState::Enroute,
                        "on the way there is only ENROUTE",
                    );
                    None
                }
                _ => None,
            };
            promise(
                end.is_none() || *end == final_now,
                "what is final never changes",
            );
            *end = end.or(final_now);
        }
        wait().await;
    }
    promise(ends.iter().all(Option::is_some), "every message ends");
    promise(
        ends.iter()
            .flatten()
            .all(|state| *state != MessageState::Cancelled),
        "a provider does not cancel",
    );
    broken
}
