//! A provider that only plays sending, but keeps its promises like a real one, also across a SIGKILL.
//!
//! It remembers what it was given in a journal. What a message has come to is a pure function of its line there, the
//! configuration and the time; the number draws the fate, so that a test can foretell it. Each call to
//! [`SmsProvider::submit`] leaves its line, also for a reference that was given before: a double send is there to see.
//!
//! An index of the journal by reference stands in memory, about 60 bytes a message, so that a look-up reads of the file only
//! what came since the last one. All replicas on one machine may keep one journal; each knows what the others were given.
//! Replicas on several machines have no file in common: what one was given, another does not know, and once the first
//! has died it hears "never had it" and plays the message a second time. Nobody gets a text of a simulator, so nothing is
//! lost by it; but where the journal is to prove that each message was sent once, run the replicas on one machine.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use platform::{SharedClock, time};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::journal::{self, Journal, SubmitRecord};
use super::{Capabilities, LookedUp, Queried, SmsProvider, Submission, Submitted};
use crate::config::SimulatorConfig;
use crate::domain::MessageState;

/// Name of the provider.
pub const NAME: &str = "simulator";

/// What the simulator will do with the messages to one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The final state; `None` when the message is lost and never ends.
    pub end: Option<MessageState>,
    /// From taking the message to its final state. Half of it later the message is `ENROUTE`.
    pub delay: Duration,
}

/// Foretells the fate of the messages to `number`, in E.164.
pub fn fate(config: &SimulatorConfig, number: &str) -> Fate {
    fate_of(config, draw(config, number))
}

fn draw(config: &SimulatorConfig, number: &str) -> u128 {
    let digest = Sha256::new()
        .chain_update(config.seed.to_be_bytes())
        .chain_update(number)
        .finalize();
    let mut drawn = [0; 16];
    drawn.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(drawn)
}

fn fate_of(config: &SimulatorConfig, draw: u128) -> Fate {
    let lot = ((draw >> 75) as u64 & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64;
    let spread = config.delay_max_ms.saturating_sub(config.delay_min_ms) + 1;
    let delay = config.delay_min_ms + (draw as u64) % spread;
    let shares = [
        (None, config.lost),
        (Some(MessageState::Undeliv), config.undeliverable),
        (Some(MessageState::Expired), config.expired),
        (Some(MessageState::Rejectd), config.rejected),
        (Some(MessageState::Deleted), config.deleted),
    ];
    let mut edge = 0.0;
    let end = shares
        .into_iter()
        .find(|(_, share)| {
            edge += share;
            lot < edge
        })
        .map_or(Some(MessageState::Delivrd), |(end, _)| end);
    Fate {
        end,
        delay: Duration::from_millis(delay),
    }
}

/// The provider.
pub struct Simulator {
    config: SimulatorConfig,
    clock: SharedClock,
    memory: Arc<Mutex<Memory>>,
}

/// The journal and what stands in it.
struct Memory {
    config: SimulatorConfig,
    journal: Journal,
    /// By reference, the first line of it.
    index: HashMap<Uuid, Taken>,
}

/// What the id of a message is made of.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// When it was given, in unix microseconds.
    at: i64,
    draw: u128,
}

impl Memory {
    /// Writes records to the disk.
    fn remember(&mut self, records: &[SubmitRecord]) -> std::io::Result<()> {
        if self.journal.append(records)? {
            for record in records {
                note(&mut self.index, &self.config, record);
            }
        } else if let Err(error) = self.catch_up() {
            // The next look-up tries again, and says that it cannot tell until it succeeds.
            tracing::warn!(%error, "the simulator's journal cannot be read");
        }
        Ok(())
    }

    /// Reads what was written since the last time, by whomever.
    fn catch_up(&mut self) -> std::io::Result<()> {
        let Self {
            config,
            journal,
            index,
        } = self;
        journal.catch_up(|record| note(index, config, &record))
    }
}

fn note(index: &mut HashMap<Uuid, Taken>, config: &SimulatorConfig, record: &SubmitRecord) {
    index
        .entry(record.reference)
        .or_insert_with(|| taken(config, record));
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what reads or writes files where that is allowed to block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::other)?
}

/// Notes that a call was given up, so that what it has not begun to write stays unwritten.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Simulator {
    /// Opens the journal and carries on where it ends.
    ///
    /// # Errors
    /// When the journal cannot be opened for reading and writing.
    pub async fn open(config: SimulatorConfig, clock: SharedClock) -> std::io::Result<Self> {
        let settings = config.clone();
        let memory = blocking(move || {
            let mut memory = Memory {
                journal: Journal::open(&settings.journal)?,
                config: settings,
                index: HashMap::new(),
            };
            memory.catch_up()?;
            Ok(memory)
        })
        .await?;
        Ok(Self {
            config,
            clock,
            memory: Arc::new(Mutex::new(memory)),
        })
    }

    /// Writes records to the disk, unless this future is dropped before.
    async fn remember(&self, records: Vec<SubmitRecord>) -> std::io::Result<()> {
        let given_up = GivenUp(Arc::default());
        let (memory, stopped) = (Arc::clone(&self.memory), Arc::clone(&given_up.0));
        blocking(move || {
            let mut memory = lock(&memory);
            // Whoever looks up after the call was given up waits for the lock, and finds all of it or, for ever, nothing.
            if stopped.load(Ordering::SeqCst) {
                return Err(ErrorKind::Interrupted.into());
            }
            memory.remember(&records)
        })
        .await
    }

    async fn respond(&self) {
        if self.config.submit_latency_ms > 0 {
            let latency = Duration::from_millis(self.config.submit_latency_ms);
            self.clock.sleep_until(self.clock.now() + latency).await;
        }
    }

    /// The id carries all that a later question needs, so that no message is held in memory.
    fn id_of(reference: Uuid, Taken { at, draw }: Taken) -> String {
        format!("sim-{at:x}-{draw:032x}-{}", reference.simple())
    }

    fn state_of(&self, id: &str) -> Queried {
        let Some((at, draw)) = parse_id(id) else {
            return Queried::NoAnswer;
        };
        let fate = fate_of(&self.config, draw);
        let age = self.clock.now().duration_since(at).unsigned_abs();
        match fate.end {
            Some(state) if age >= fate.delay => {
                let error = match state {
                    MessageState::Delivrd => String::new(),
                    other => format!("simulated {}", other.as_str()),
                };
                Queried::Became { state, error }
            }
            _ if age >= fate.delay / 2 => Queried::Became {
                state: MessageState::Enroute,
                error: String::new(),
            },
            _ => Queried::Pending,
        }
    }
}

fn taken(config: &SimulatorConfig, record: &SubmitRecord) -> Taken {
    Taken {
        at: record.at,
        draw: draw(config, &record.to),
    }
}

fn parse_id(id: &str) -> Option<(Timestamp, u128)> {
    let mut parts = id.strip_prefix("sim-")?.split('-');
    let at = i64::from_str_radix(parts.next()?, 16).ok()?;
    let draw = u128::from_str_radix(parts.next()?, 16).ok()?;
    Uuid::try_parse(parts.next()?).ok()?;
    parts
        .next()
        .is_none()
        .then_some((time::from_micros(at), draw))
}

#[async_trait]
impl SmsProvider for Simulator {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_submit: 1000,
            max_query: 5000,
            finds_by_reference: true,
            dedupes_by_reference: false,
        }
    }

    async fn submit(&self, batch: &[Submission]) -> Vec<Submitted> {
        let at = time::to_micros(self.clock.now());
        let records: Vec<_> = batch
            .iter()
            .map(|s| SubmitRecord {
                reference: s.reference,
                to: s.to.clone(),
                at,
            })
            .collect();
        if !records.is_empty()
            && let Err(error) = self.remember(records.clone()).await
        {
            tracing::error!(%error, "the simulator's journal cannot be written");
            return vec![Submitted::Unknown; batch.len()];
        }
        self.respond().await;
        records
            .iter()
            .map(|record| Submitted::Accepted {
                provider_message_id: Self::id_of(record.reference, taken(&self.config, record)),
            })
            .collect()
    }

    async fn query(&self, ids: &[String]) -> Vec<Queried> {
        self.respond().await;
        ids.iter().map(|id| self.state_of(id)).collect()
    }

    async fn lookup(&self, references: &[Uuid]) -> Vec<LookedUp> {
        let (memory, asked) = (Arc::clone(&self.memory), references.to_vec());
        let found = blocking(move || {
            let mut memory = lock(&memory);
            memory.catch_up()?;
            let of = |reference| match memory.index.get(reference) {
                Some(taken) => LookedUp::Known {
                    provider_message_id: Self::id_of(*reference, *taken),
                },
                None => LookedUp::Unknown,
            };
            Ok(asked.iter().map(of).collect())
        });
        found.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the simulator's journal cannot be read");
            vec![LookedUp::CannotTell; references.len()]
        })
    }
}

/// Every message that was ever given to the simulator with this journal, in order, repetitions included.
///
/// # Errors
/// When the file exists but cannot be read; a missing one is empty.
pub fn simulator_journal(path: &Path) -> std::io::Result<Vec<SubmitRecord>> {
    journal::read(path)?.collect()
}
