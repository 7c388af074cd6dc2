//! Providers that do not do what one hopes for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use async_trait::async_trait;
use scheduler_service::Simulator;
use scheduler_service::providers::{
    Capabilities, LookedUp, Queried, SmsProvider, Submission, Submitted,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// The simulator behind two gates: one before it gets a submission, one before its answer comes back.
pub(crate) struct Gated {
    simulator: Simulator,
    pub(crate) before: Semaphore,
    pub(crate) after: Semaphore,
    /// Calls that wait, or waited, at the first gate.
    pub(crate) came: AtomicUsize,
    /// Calls that wait, or waited, at the second gate.
    pub(crate) passed: AtomicUsize,
}

impl Gated {
    pub(crate) fn new(simulator: Simulator, before: usize, after: usize) -> Arc<Self> {
        Arc::new(Self {
            simulator,
            before: Semaphore::new(before),
            after: Semaphore::new(after),
            came: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
        })
    }

    /// Calls that stand at the gates now, if those have let `before` and `after` calls pass.
    pub(crate) fn stopped(&self, before: usize, after: usize) -> (usize, usize) {
        let (came, passed) = (&self.came, &self.passed);
        (
            came.load(Ordering::SeqCst).saturating_sub(before),
            passed.load(Ordering::SeqCst).saturating_sub(after),
        )
    }
}

#[async_trait]
impl SmsProvider for Gated {
    fn name(&self) -> &str {
        self.simulator.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.simulator.capabilities()
    }

    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted> {
        self.came.fetch_add(1, Ordering::SeqCst);
        self.before.acquire().await.unwrap().forget();
        let answers = self.simulator.submit(batch).await;
        self.passed.fetch_add(1, Ordering::SeqCst);
        self.after.acquire().await.unwrap().forget();
        answers
    }

    async fn query(&self, ids: &[String]) -> Vec<Queried> {
        self.simulator.query(ids).await
    }

    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp> {
        self.simulator.lookup(references).await
    }
}

/// Holds a thread fast, as the system does with all of a process that it suspends.
#[derive(Default)]
pub(crate) struct Freezer {
    /// Whether it holds, and how often it did.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Freezer {
    pub(crate) fn set(&self, holds: bool) {
        self.state.lock().unwrap().0 = holds;
        self.changed.notify_all();
    }

    pub(crate) fn held(&self) -> usize {
        self.state.lock().unwrap().1
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if state.0 {
            state.1 += 1;
            drop(self.changed.wait_while(state, |state| state.0).unwrap());
        }
    }
}

/// Where [`Suspended`] stands still.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum At {
    /// Between two steps of the call.
    AStep,
    /// After the last look at any clock, with the bytes as good as gone.
    TheSend,
}

/// A provider in a process that is suspended within its submissions, a few messages a call.
pub(crate) struct Suspended<P> {
    pub(crate) provider: P,
    pub(crate) at: At,
    pub(crate) freezer: Freezer,
    pub(crate) lookups: AtomicUsize,
}

impl<P> Suspended<P> {
    pub(crate) fn new(provider: P, at: At) -> Arc<Self> {
        Arc::new(Self {
            provider,
            at,
            freezer: Freezer::default(),
            lookups: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl<P: SmsProvider> SmsProvider for Suspended<P> {
    fn name(&self) -> &str {
        self.provider.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_submit: 5,
            ..self.provider.capabilities()
        }
    }

    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted> {
        self.freezer.pass();
        if self.at == At::AStep {
            tokio::task::yield_now().await;
        }
        self.provider.submit(batch).await
    }

    async fn query(&self, ids: &[String]) -> Vec<Queried> {
        self.provider.query(ids).await
    }

    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp> {
        self.lookups.fetch_add(references.len(), Ordering::SeqCst);
        self.provider.lookup(references).await
    }
}

/// The simulator, as one that takes a reference once. All replicas talk to the same one.
pub(crate) struct Deduping {
    simulator: Simulator,
    taken: tokio::sync::Mutex<HashMap<Uuid, Submitted>>,
    pub(crate) finds_by_reference: bool,
    /// Messages that it was given, repetitions included.
    pub(crate) given: AtomicUsize,
}

impl Deduping {
    pub(crate) fn new(simulator: Simulator) -> Self {
        Self {
            simulator,
            taken: tokio::sync::Mutex::default(),
            finds_by_reference: true,
            given: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl SmsProvider for Deduping {
    fn name(&self) -> &str {
        self.simulator.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            finds_by_reference: self.finds_by_reference,
            dedupes_by_reference: true,
            ..self.simulator.capabilities()
        }
    }

    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted> {
        let mut taken = self.taken.lock().await;
        let new: Vec<Submission> = batch
            .iter()
            .filter(|submission| !taken.contains_key(&submission.reference))
            .cloned()
            .collect();
        let answers = self.simulator.submit(&new).await;
        let accepted = new.iter().zip(answers).filter_map(|(one, answer)| {
            let accepted = matches!(answer, Submitted::Accepted { .. });
            accepted.then_some((one.reference, answer))
        });
        taken.extend(accepted);
        let answer = |one: &Submission| taken.get(&one.reference).cloned();
        let answers = batch
            .iter()
            .map(|one| answer(one).unwrap_or(Submitted::Unknown))
            .collect();
        drop(taken);
        self.given.fetch_add(batch.len(), Ordering::SeqCst);
        answers
    }

    async fn query(&self, ids: &[String]) -> Vec<Queried> {
        self.simulator.query(ids).await
    }

    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp> {
        self.simulator.lookup(references).await
    }
}

/// A provider that several replicas share.
pub(crate) struct Shared<P>(pub(crate) Arc<P>);

#[async_trait]
impl<P: SmsProvider> SmsProvider for Shared<P> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted> {
        self.0.submit(batch).await
    }

    async fn query(&self, ids: &[String]) -> Vec<Queried> {
        self.0.query(ids).await
    }

    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp> {
        self.0.lookup(references).await
    }
}
