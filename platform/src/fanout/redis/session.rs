//! One connection for subscriptions, from its beginning to its loss.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use redis::{ErrorKind, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::wanted::Wanted;
use crate::redis_client::{Link, Outage};

/// Topics in one batch.
const BATCH: usize = 512;
/// How often an idle connection is asked whether it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest wait for an answer. Listeners do not wait for it; a connection given up too early would make all of them read
/// the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes the subscriptions of one connection equal to what is wanted.
pub(super) struct Session<'a> {
    link: &'a Link,
    channels: &'a str,
    wanted: &'a Wanted,
    /// Topics that the server knows of.
    subscribed: HashSet<String>,
}

/// Hands on what Redis tells. Called by the task that reads the connection.
pub(super) fn deliver(wanted: &Wanted, channels: &str, push: PushInfo) {
    let mut data = push.data.into_iter();
    let Some(Value::BulkString(channel)) = data.next() else {
        return;
    };
    let Some(topic) = std::str::from_utf8(&channel)
        .ok()
        .and_then(|channel| channel.strip_prefix(channels))
    else {
        return;
    };
    match (push.kind, data.next()) {
        (PushKind::SMessage, Some(Value::BulkString(payload))) => {
            wanted.poke(topic, Bytes::from(payload));
        }
        (PushKind::SUnsubscribe, _) => wanted.ended(topic),
        _ => {}
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(link: &'a Link, channels: &'a str, wanted: &'a Wanted) -> Self {
        Self {
            link,
            channels,
            wanted,
            subscribed: HashSet::new(),
        }
    }

    /// Runs until the connection is lost, and tells why.
    pub(super) async fn run(&mut self, outage: &mut Outage) -> RedisError {
        self.wanted.connect();
        loop {
            if let Err(error) = self.catch_up().await {
                return error;
            }
            outage.is_over();
            if let Err(error) = self.idle().await {
                return error;
            }
        }
    }

    /// Makes all changes there are.
    async fn catch_up(&mut self) -> RedisResult<()> {
        loop {
            if self.wanted.was_taken() {
                return Err(confused("the server ended a subscription by itself"));
            }
            let changes = self.wanted.take_changes(BATCH);
            if changes.is_empty() {
                return Ok(());
            }
            self.make(changes).await?;
        }
    }

    /// Makes some changes, and waits until the server has.
    async fn make(&mut self, changes: Vec<(String, bool)>) -> RedisResult<()> {
        let (same, others): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|(topic, is_wanted)| self.subscribed.contains(topic) == *is_wanted);
        let mut commands = Pipeline::new();
        for (topic, is_wanted) in &others {
            let name = if *is_wanted {
                "SSUBSCRIBE"
            } else {
                "SUNSUBSCRIBE"
            };
            // One a command: the topics of one command would have to live on one node.
            commands.cmd(name).arg(format!("{}{topic}", self.channels));
        }
        if !others.is_empty() {
            let answers = self.link.query_all(&commands, PATIENCE).await?;
            for ((topic, is_wanted), answer) in others.iter().zip(answers) {
                self.check(topic, *is_wanted, answer)?;
            }
        }
        for (topic, is_wanted) in &others {
            if *is_wanted {
                self.subscribed.insert(topic.clone());
            } else {
                self.subscribed.remove(topic);
            }
        }
        let live = same.iter().chain(&others);
        self.wanted.are_live(
            live.filter(|(_, is_wanted)| *is_wanted)
                .map(|(topic, _)| topic.as_str()),
        );
        Ok(())
    }

    /// Whether the answer confirms the change. One that stands in the place of another was not asked for.
    fn check(&self, topic: &str, is_wanted: bool, answer: Value) -> RedisResult<()> {
        let expected = if is_wanted {
            PushKind::SSubscribe
        } else {
            PushKind::SUnsubscribe
        };
        match answer.extract_error()? {
            Value::Push { kind, data } if kind == expected && self.is_about(topic, &data) => Ok(()),
            _ => Err(confused("an answer does not belong to its question")),
        }
    }

    fn is_about(&self, topic: &str, data: &[Value]) -> bool {
        let Some(Value::BulkString(channel)) = data.first() else {
            return false;
        };
        channel
            .strip_prefix(self.channels.as_bytes())
            .is_some_and(|rest| rest == topic.as_bytes())
    }

    /// Waits until topics have changed.
    async fn idle(&self) -> RedisResult<()> {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                error = self.link.lost() => return Err(error),
                () = self.wanted.changed() => return Ok(()),
                _ = heartbeat.tick() => self.link.ping(PATIENCE).await?,
            }
        }
    }
}

/// What the server knows is not what we believe: the connection has to begin anew.
fn confused(why: &'static str) -> RedisError {
    (ErrorKind::Client, why).into()
}
