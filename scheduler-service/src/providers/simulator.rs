//! A provider that only plays sending, but keeps its promises like a real one, also across a SIGKILL.
//!
//! It remembers what it was given in a journal. What a message has come to is a pure function of its line there, the
//! configuration and the time; the number draws the fate, so that a test can foretell it. Each call to
//! [`SmsProvider::submit`] leaves its line, also for a reference that was given before: a double send is there to see.
//!
//! An index of the journal by reference stands in memory, about 60 bytes a message, so that a look-up reads no file.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use platform::{SharedClock, time};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
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
    memory: Mutex<Memory>,
}

/// The journal and what stands in it.
struct Memory {
    journal: Journal,
    /// By reference, the first line of it. `None` when a write was cut off: then only the file can tell.
    index: Option<HashMap<Uuid, Taken>>,
}

/// What the id of a message is made of.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// When it was given, in unix microseconds.
    at: i64,
    draw: u128,
}

impl Simulator {
    /// Opens the journal and carries on where it ends.
    ///
    /// # Errors
    /// When the journal cannot be opened for writing.
    pub async fn open(config: SimulatorConfig, clock: SharedClock) -> std::io::Result<Self> {
        let journal = Journal::open(&config.journal).await?;
        let index = Some(index_of(&config, &journal).await?);
        Ok(Self {
            config,
            clock,
            memory: Mutex::new(Memory { journal, index }),
        })
    }

    /// Writes records to the disk and to the index.
    async fn remember(&self, records: &[SubmitRecord]) -> std::io::Result<()> {
        let mut memory = self.memory.lock().await;
        // Put back when the write is known to be whole. If it fails, or this future is dropped in between, nobody knows
        // what stands in the file.
        let index = memory.index.take();
        memory.journal.append(records).await?;
        memory.index = index.map(|mut index| {
            for record in records {
                index
                    .entry(record.reference)
                    .or_insert_with(|| taken(&self.config, record));
            }
            index
        });
        Ok(())
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

/// Reads the index from the file.
async fn index_of(
    config: &SimulatorConfig,
    journal: &Journal,
) -> std::io::Result<HashMap<Uuid, Taken>> {
    let path = journal.path().to_owned();
    let config = config.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut index = HashMap::new();
        for record in journal::read(&path)? {
            let record = record?;
            index
                .entry(record.reference)
                .or_insert_with(|| taken(&config, &record));
        }
        Ok(index)
    });
    read.await.map_err(std::io::Error::other)?
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
            && let Err(error) = self.remember(&records).await
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
        // The lock, and the wait for a write that was given up, keep a submission from being overlooked.
        let mut memory = self.memory.lock().await;
        let Memory { journal, index } = &mut *memory;
        if index.is_none() {
            let read = match journal.settle().await {
                Ok(()) => index_of(&self.config, journal).await,
                Err(error) => Err(error),
            };
            *index = read
                .inspect_err(
                    |error| tracing::error!(%error, "the simulator's journal cannot be read"),
                )
                .ok();
        }
        let Some(index) = index else {
            return vec![LookedUp::CannotTell; references.len()];
        };
        references
            .iter()
            .map(|reference| match index.get(reference) {
                Some(taken) => LookedUp::Known {
                    provider_message_id: Self::id_of(*reference, *taken),
                },
                None => LookedUp::Unknown,
            })
            .collect()
    }
}

/// Every message that was ever given to the simulator with this journal, in order, repetitions included.
///
/// # Errors
/// When the file exists but cannot be read; a missing one is empty.
pub fn simulator_journal(path: &Path) -> std::io::Result<Vec<SubmitRecord>> {
    journal::read(path)?.collect()
}
