//! The brake on failed tries, asked twice: before the work, to save it, and in the transaction that decides, so that
//! tries at the same time do not pass together.

use jiff::Timestamp;
use platform::Error;
use sea_orm::ConnectionTrait;

use crate::domain::throttle::Allowance;
use crate::error::Refusal;
use crate::storage::attempts;

/// What is counted, and how many failures it is allowed.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) allowance: Allowance,
}

/// Refuses while one of the subjects must pause.
pub(super) async fn ask(
    db: &impl ConnectionTrait,
    subjects: &[Subject],
    now: Timestamp,
) -> Result<(), Error> {
    for subject in subjects {
        let counter = attempts::read(db, &subject.name).await?;
        if let Some(wait) = subject.allowance.pause(counter.as_ref(), now) {
            return Err(Refusal::TooManyAttempts(wait).into());
        }
    }
    Ok(())
}

/// Counts one failure of each subject, which must come in the order of their names; refuses, and counts nothing, when
/// one must pause by now.
pub(super) async fn count(
    tx: &impl ConnectionTrait,
    subjects: &[Subject],
    now: Timestamp,
) -> Result<(), Error> {
    let mut counters = Vec::with_capacity(subjects.len());
    for subject in subjects {
        let counter = attempts::lock(tx, &subject.name, now).await?;
        if let Some(wait) = subject.allowance.pause(counter.as_ref(), now) {
            return Err(Refusal::TooManyAttempts(wait).into());
        }
        counters.push(subject.allowance.count(counter.as_ref(), now));
    }
    for (subject, counter) in subjects.iter().zip(&counters) {
        attempts::save(tx, &subject.name, counter).await?;
    }
    Ok(())
}
