//! Password hashing: Argon2id on a few threads of its own, with a bounded queue before them.
//!
//! Each thread keeps the memory that Argon2 fills and uses it again: given back and taken anew for each hash, it would
//! leave hundreds of megabytes with the allocator, and cost a page fault for every four KiB.

use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context;
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use platform::Error;
use tokio::sync::{Semaphore, oneshot};

use crate::config::PasswordHashConfig;
use crate::domain::password::MAX_BYTES;
use crate::error::Refusal;

/// What became of a password that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It is not the one.
    Wrong,
    /// It is the one.
    Right {
        /// The stored hash was made with other parameters than today's.
        outdated: bool,
    },
}

/// Hashes and checks passwords. Cheap to clone.
#[derive(Clone)]
pub struct Hasher {
    inner: Arc<Inner>,
    /// The threads end when the last clone is gone.
    jobs: mpsc::Sender<Job>,
}

/// One piece of work for whichever thread is free.
type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// What Argon2 fills, 1 KiB each; as many as the dearest hash of this thread needed.
type Memory = Vec<Block>;

struct Inner {
    argon2: Argon2<'static>,
    /// Checked when there is no stored hash, so that an unknown user costs the same time as a known one.
    decoy: String,
    threads: Arc<Semaphore>,
    waiting: Semaphore,
    deadline: Duration,
}

impl Hasher {
    /// A hasher with the given parameters. Takes the time of one hash.
    ///
    /// # Errors
    /// When the parameters do not fit each other.
    pub fn new(config: &PasswordHashConfig) -> anyhow::Result<Self> {
        let params = Params::new(
            config.memory_kib,
            config.iterations,
            config.parallelism,
            None,
        )
        .map_err(|error| anyhow::anyhow!("argon2 parameters: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash(&argon2, &rand::random::<[u8; 32]>(), &mut Memory::new())?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if config.threads == 0 {
            cores
        } else {
            config.threads
        };
        Ok(Self {
            jobs: start(threads)?,
            inner: Arc::new(Inner {
                argon2,
                decoy,
                threads: Arc::new(Semaphore::new(threads)),
                waiting: Semaphore::new(config.queue),
                deadline: Duration::from_millis(config.queue_deadline_ms),
            }),
        })
    }

    /// Hashes a new password into the form that is stored.
    ///
    /// # Errors
    /// `overloaded` when no thread becomes free in time.
    pub async fn hash(&self, password: String) -> Result<String, Error> {
        self.run(move |inner, memory| hash(&inner.argon2, password.as_bytes(), memory))
            .await
    }

    /// Checks a password against what is stored; the same work is done when nothing is.
    ///
    /// # Errors
    /// `overloaded` when no thread becomes free in time.
    pub async fn check(&self, password: String, stored: Option<String>) -> Result<Checked, Error> {
        self.run(move |inner, memory| Ok(check(inner, &password, stored.as_deref(), memory)))
            .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &mut Memory) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self
            .inner
            .waiting
            .try_acquire()
            .map_err(|_| Refusal::Overloaded)?;
        let turn = Arc::clone(&self.inner.threads).acquire_owned();
        let thread = match tokio::time::timeout(self.inner.deadline, turn).await {
            Ok(Ok(thread)) => thread,
            _ => return Err(Refusal::Overloaded.into()),
        };
        drop(place);
        let inner = Arc::clone(&self.inner);
        let (done, outcome) = oneshot::channel();
        let job = Box::new(move |memory: &mut Memory| {
            // Goes with the work, not with the caller, who may give up while it runs.
            let _thread = thread;
            let _gave_up = done.send(work(&inner, memory)).is_err();
        });
        let gone = |_| Error::internal(anyhow::anyhow!("the hashing threads are gone"));
        self.jobs.send(job).map_err(gone)?;
        outcome
            .await
            .map_err(Error::internal)?
            .map_err(Error::internal)
    }
}

/// Starts the threads; they end when the sender is gone.
fn start(threads: usize) -> anyhow::Result<mpsc::Sender<Job>> {
    let (jobs, waiting) = mpsc::channel::<Job>();
    let waiting = Arc::new(Mutex::new(waiting));
    for number in 0..threads {
        let waiting = Arc::clone(&waiting);
        std::thread::Builder::new()
            .name(format!("hash-{number}"))
            .spawn(move || {
                let mut memory = Memory::new();
                loop {
                    let job = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .recv();
                    let Ok(job) = job else { return };
                    // A panic shows to its caller, whose reply is dropped; the thread goes on.
                    let work = AssertUnwindSafe(|| job(&mut memory));
                    let _panicked = std::panic::catch_unwind(work).is_err();
                }
            })?;
    }
    Ok(jobs)
}

fn hash(argon2: &Argon2<'_>, password: &[u8], memory: &mut Memory) -> anyhow::Result<String> {
    let failed = |error: &dyn std::fmt::Display| anyhow::anyhow!("cannot hash: {error}");
    let params = argon2.params();
    let salt = Salt::generate();
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(|error| failed(&error))?,
        hash: Some(fill(argon2, password, &salt, memory).map_err(|error| failed(&error))?),
        salt: Some(salt),
    };
    Ok(hash.to_string())
}

/// One run of Argon2 in memory that is there already.
fn fill(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    memory: &mut Memory,
) -> anyhow::Result<Output> {
    let params = argon2.params();
    let blocks = params.block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let mut out = [0; Output::MAX_LENGTH];
    let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let out = out.get_mut(..length).context("the output is too long")?;
    argon2
        .hash_password_into_with_memory(password, salt, out, &mut memory[..blocks])
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Output::new(out).map_err(|error| anyhow::anyhow!("{error}"))
}

fn check(inner: &Inner, password: &str, stored: Option<&str>, memory: &mut Memory) -> Checked {
    // Nobody has a longer one; cut, it costs no more time than others.
    let bytes = password.as_bytes();
    let cut = &bytes[..bytes.len().min(MAX_BYTES)];
    let known = stored.and_then(|stored| match PasswordHash::new(stored) {
        Ok(hash) => Some(hash),
        Err(error) => {
            tracing::error!(%error, "a stored password hash cannot be read");
            None
        }
    });
    let Some(hash) = known else {
        // The outcome does not matter, the time does.
        if let Ok(decoy) = PasswordHash::new(&inner.decoy) {
            let _ = is_right(cut, &decoy, memory);
        }
        return Checked::Wrong;
    };
    let right = is_right(cut, &hash, memory).unwrap_or_else(|error| {
        tracing::error!(%error, "a stored password hash cannot be checked");
        false
    });
    if !right || cut.len() < bytes.len() {
        return Checked::Wrong;
    }
    Checked::Right {
        outdated: !is_current(inner.argon2.params(), &hash),
    }
}

/// Runs Argon2 as the stored hash says, and compares in constant time.
fn is_right(password: &[u8], stored: &PasswordHash, memory: &mut Memory) -> anyhow::Result<bool> {
    let algorithm = Algorithm::try_from(stored.algorithm.as_str())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let version = stored.version.unwrap_or_else(|| Version::V0x13.into());
    let version = Version::try_from(version).map_err(|error| anyhow::anyhow!("{error}"))?;
    let params = Params::try_from(stored).map_err(|error| anyhow::anyhow!("{error}"))?;
    let salt = stored.salt.as_ref().context("no salt")?;
    let expected = stored.hash.as_ref().context("no hash")?;
    let argon2 = Argon2::new(algorithm, version, params);
    Ok(fill(&argon2, password, salt, memory)? == *expected)
}

fn is_current(params: &Params, hash: &PasswordHash) -> bool {
    let cost = |p: &Params| (p.m_cost(), p.t_cost(), p.p_cost());
    hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version == Some(Version::V0x13.into())
        && Params::try_from(hash).is_ok_and(|old| cost(&old) == cost(params))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PasswordHashConfig {
        PasswordHashConfig {
            memory_kib: 64,
            iterations: 1,
            threads: 1,
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_password_is_known_again() {
        let hasher = Hasher::new(&config()).unwrap();
        let stored = hasher.hash("correct horse".to_owned()).await.unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"),
            "{stored}"
        );
        let check = |password: &str| hasher.check(password.to_owned(), Some(stored.clone()));
        assert_eq!(
            check("correct horse").await.unwrap(),
            Checked::Right { outdated: false }
        );
        assert_eq!(check("Correct horse").await.unwrap(), Checked::Wrong);
        assert_eq!(check("").await.unwrap(), Checked::Wrong);
    }

    #[tokio::test]
    async fn other_parameters_make_a_hash_outdated() {
        let old = Hasher::new(&config()).unwrap();
        let new = Hasher::new(&PasswordHashConfig {
            iterations: 2,
            ..config()
        })
        .unwrap();
        let stored = old.hash("correct horse".to_owned()).await.unwrap();
        let checked = new
            .check("correct horse".to_owned(), Some(stored))
            .await
            .unwrap();
        assert_eq!(checked, Checked::Right { outdated: true });
    }

    #[tokio::test]
    async fn an_unknown_user_costs_a_check_and_never_passes() {
        let hasher = Hasher::new(&config()).unwrap();
        assert_eq!(
            hasher.check("anything".to_owned(), None).await.unwrap(),
            Checked::Wrong
        );
        let damaged = Some("not a hash".to_owned());
        assert_eq!(
            hasher.check("anything".to_owned(), damaged).await.unwrap(),
            Checked::Wrong
        );
    }

    #[tokio::test]
    async fn a_password_that_only_begins_right_is_wrong() {
        let hasher = Hasher::new(&config()).unwrap();
        let longest = "x".repeat(MAX_BYTES);
        let stored = hasher.hash(longest.clone()).await.unwrap();
        let checked = hasher.check(longest + "x", Some(stored)).await.unwrap();
        assert_eq!(checked, Checked::Wrong);
    }

    #[tokio::test]
    async fn who_cannot_be_served_in_time_is_told_so() {
        let hasher = Hasher::new(&PasswordHashConfig {
            queue_deadline_ms: 1,
            ..config()
        })
        .unwrap();
        let _busy = Arc::clone(&hasher.inner.threads)
            .acquire_owned()
            .await
            .unwrap();
        let error = hasher.hash("correct horse".to_owned()).await.unwrap_err();
        assert_eq!(error.reason(), "overloaded");
        assert!(error.retry_after().is_some());
    }
}
