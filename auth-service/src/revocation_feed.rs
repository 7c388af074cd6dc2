//! What was revoked, told to everybody who watches, within moments.
//!
//! A commit of this process is told at once. Commits of other replicas are found by reading the tail of the table four
//! times a second; nothing that was committed before a look is left out, see [`revocations::since`]. Each successful look
//! is told too, as a heartbeat: whoever hears it knows that nothing that was committed before the look is missing. While
//! the database does not answer there is no heartbeat, and the watchers draw their conclusions. What is told without a
//! look is none: commits of this process may go on while those of other replicas cannot be seen.
//!
//! The looks have a connection of their own. Payments stop with the heartbeats, so no other query may come before them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use platform::database::{Database, DatabaseConfig};
use platform::revocation::Revocations;
use platform::token::{ACCESS_TOKEN_LIFE, CLOCK_SKEW_SECONDS};
use platform::{Error, SharedClock, Tasks};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::domain::session::later;
use crate::storage::revocations::{self, Position, Revoked};

/// How often the table is read, and with it the pause between two heartbeats.
const PERIOD: Duration = Duration::from_millis(250);
/// A look that takes longer counts as failed, and its connection as lost.
const PATIENCE: Duration = Duration::from_millis(900);
/// News that a watcher may lag behind before it gets everything again.
const BACKLOG: usize = 1_024;
/// Heartbeats between two removals of what has expired.
const EXPIRE_EVERY: u32 = 240;

/// What happened since the news before.
#[derive(Debug, Clone)]
pub struct News {
    /// Sessions revoked; often none.
    pub revoked: Arc<[Revoked]>,
    /// Whether the table was read for it: with this, everything that was committed a moment ago has been told.
    pub heartbeat: bool,
}

/// Tells revocations. Cheap to clone.
#[derive(Clone)]
pub struct RevocationFeed {
    list: Revocations,
    news: broadcast::Sender<News>,
}

impl RevocationFeed {
    /// A feed that keeps `list` up to date.
    pub fn new(list: Revocations) -> Self {
        Self {
            list,
            news: broadcast::Sender::new(BACKLOG),
        }
    }

    /// When a session that is revoked at `now` may be forgotten: its last access token has expired on every clock.
    pub fn until(now: Timestamp) -> Timestamp {
        let skew = Duration::from_secs(CLOCK_SKEW_SECONDS.unsigned_abs());
        later(now, ACCESS_TOKEN_LIFE.saturating_add(skew))
    }

    /// Tells of sessions whose revocation has just been committed.
    pub fn announce(&self, sessions: &[Uuid], until: Timestamp) {
        let revoked = sessions.iter().map(|session| (*session, until)).collect();
        self.tell(revoked, false);
    }

    /// Everything that is revoked now. Subscribe first.
    pub fn snapshot(&self) -> Vec<Revoked> {
        self.list.snapshot()
    }

    /// News from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Loads what is revoked, then follows the table in a task, on a connection of its own.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn start(
        &self,
        config: &DatabaseConfig,
        clock: SharedClock,
        tasks: &Tasks,
    ) -> Result<(), Error> {
        let mut looks = Looks {
            config: DatabaseConfig {
                max_connections: 1,
                ..config.clone()
            },
            db: None,
            position: Position::default(),
        };
        self.looked(looks.next(clock.now()).await?);
        let (feed, token) = (self.clone(), tasks.token());
        tasks.spawn_critical("auth-service-revocations", async move {
            let mut ticks = tokio::time::interval(PERIOD);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let (mut failing, mut beats) = (false, 0_u32);
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                let failed = match tokio::time::timeout(PATIENCE, looks.next(clock.now())).await {
                    Ok(Ok(found)) => {
                        feed.looked(found);
                        None
                    }
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => {
                        looks.reconnect();
                        Some("the database does not answer in time".to_owned())
                    }
                };
                if let Some(error) = &failed
                    && !failing
                {
                    tracing::warn!(
                        error,
                        "revocations cannot be read; no heartbeat until they can"
                    );
                }
                failing = failed.is_some();
                beats = beats.wrapping_add(1);
                if beats.is_multiple_of(EXPIRE_EVERY) {
                    feed.list.expire(clock.now());
                }
            }
        });
        Ok(())
    }

    /// Tells what a successful look has found.
    pub(crate) fn looked(&self, mut found: Vec<Revoked>) {
        found.retain(|(session, _)| !self.list.is_revoked(session));
        self.tell(found, true);
        self.list.heard();
    }

    fn tell(&self, revoked: Vec<Revoked>, heartbeat: bool) {
        self.list.apply(revoked.iter().copied());
        // Nobody may be watching, which is fine.
        let _ = self.news.send(News {
            revoked: revoked.into(),
            heartbeat,
        });
    }
}

/// Looks at the table, each from where the one before has come to.
struct Looks {
    config: DatabaseConfig,
    db: Option<Database>,
    position: Position,
}

impl Looks {
    /// What was revoked since the look before, or some more.
    async fn next(&mut self, now: Timestamp) -> Result<Vec<Revoked>, Error> {
        let db = match &self.db {
            Some(db) => db,
            None => self.db.insert(Database::connect(&self.config).await?),
        };
        let (found, position) = revocations::since(db, self.position, now).await?;
        self.position = position;
        Ok(found)
    }

    /// Gives up a connection on which nobody answers: it may take the system many minutes to notice.
    fn reconnect(&mut self) {
        self.db = None;
    }
}

#[cfg(test)]
mod tests {
    use platform::revocation::Freshness;

    use super::*;

    #[test]
    fn a_commit_of_our_own_is_told_at_once_but_is_no_heartbeat() {
        let list = Revocations::new();
        let feed = RevocationFeed::new(list.clone());
        let mut news = feed.subscribe();
        let session = Uuid::from_u128(1);

        feed.announce(&[session], Timestamp::MAX);
        assert!(list.is_revoked(&session));
        let told = news.try_recv().unwrap();
        assert_eq!(
            (&*told.revoked, told.heartbeat),
            ([(session, Timestamp::MAX)].as_slice(), false)
        );
        assert_eq!(list.freshness(), Freshness::Lost, "nobody has looked");

        feed.looked(vec![(session, Timestamp::MAX)]);
        let told = news.try_recv().unwrap();
        assert!(told.revoked.is_empty() && told.heartbeat);
        assert_eq!(list.freshness(), Freshness::Fresh);
    }
}
