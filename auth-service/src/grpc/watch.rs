//! The stream of revocations: a snapshot in pieces, then news and heartbeats.

use std::collections::VecDeque;

use futures::{Stream, StreamExt, stream};
use platform::Tasks;
use platform::time::to_proto;
use proto::identity::v1::{RevokedSession, WatchRevocationsResponse};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use crate::revocation_feed::{News, RevocationFeed};
use crate::storage::revocations::Revoked;

/// Sessions in one message.
const CHUNK: usize = 1_000;

struct Watch {
    feed: RevocationFeed,
    news: Receiver<News>,
    begun: bool,
    waiting: VecDeque<WatchRevocationsResponse>,
}

/// The stream for one watcher; ends when the process shuts down.
pub(super) fn stream(
    feed: RevocationFeed,
    tasks: &Tasks,
) -> impl Stream<Item = Result<WatchRevocationsResponse, Status>> + Send + use<> {
    let news = feed.subscribe();
    let watch = Watch {
        feed,
        news,
        begun: false,
        waiting: VecDeque::new(),
    };
    let token = tasks.token();
    stream::unfold(watch, |mut watch| async move {
        let message = watch.next().await?;
        Some((Ok(message), watch))
    })
    .take_until(token.cancelled_owned())
}

impl Watch {
    async fn next(&mut self) -> Option<WatchRevocationsResponse> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            match self.news.recv().await {
                // The snapshot waits for the first heartbeat: it must not pass for news while the database is away.
                Ok(news) if !self.begun && !news.heartbeat => {}
                Ok(_) if !self.begun => {
                    self.begun = true;
                    self.waiting = in_pieces(&self.feed.snapshot());
                    match self.waiting.back_mut() {
                        Some(last) => last.snapshot_complete = true,
                        None => self.waiting.push_back(WatchRevocationsResponse {
                            snapshot_complete: true,
                            ..Default::default()
                        }),
                    }
                }
                Ok(news) => {
                    self.waiting = in_pieces(&news.revoked);
                    if news.heartbeat {
                        self.waiting.push_back(WatchRevocationsResponse::default());
                    }
                }
                // Too slow for the news: everything once more, which is harmless.
                Err(RecvError::Lagged(_)) if self.begun => {
                    self.waiting = in_pieces(&self.feed.snapshot());
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Messages that carry sessions; a message without any is a heartbeat.
fn in_pieces(sessions: &[Revoked]) -> VecDeque<WatchRevocationsResponse> {
    sessions
        .chunks(CHUNK)
        .map(|chunk| WatchRevocationsResponse {
            revoked: chunk.iter().map(revoked).collect(),
            snapshot_complete: false,
        })
        .collect()
}

fn revoked((session, until): &Revoked) -> RevokedSession {
    RevokedSession {
        session_id: session.to_string(),
        until: Some(to_proto(*until)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use jiff::Timestamp;
    use platform::revocation::Revocations;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_watcher_gets_the_snapshot_in_pieces_and_then_news() {
        let list = Revocations::new();
        let until = Timestamp::from_second(1_700_000_000).unwrap();
        list.apply((0..2_500).map(|n| (Uuid::from_u128(n), until)));
        let feed = RevocationFeed::new(list);
        let tasks = Tasks::new();
        let mut stream = Box::pin(stream(feed.clone(), &tasks));

        feed.looked(Vec::new());
        let mut seen = 0;
        loop {
            let message = stream.next().await.unwrap().unwrap();
            assert!(message.revoked.len() <= CHUNK);
            seen += message.revoked.len();
            if message.snapshot_complete {
                break;
            }
        }
        assert_eq!(seen, 2_500);

        feed.looked(Vec::new());
        assert_eq!(
            stream.next().await.unwrap().unwrap(),
            WatchRevocationsResponse::default()
        );
        feed.announce(&[Uuid::from_u128(9_999)], until);
        let news = stream.next().await.unwrap().unwrap();
        assert_eq!(
            news.revoked[0].session_id,
            Uuid::from_u128(9_999).to_string()
        );
    }

    #[tokio::test]
    async fn a_watcher_that_lags_gets_everything_again() {
        let feed = RevocationFeed::new(Revocations::new());
        let until = Timestamp::from_second(1_700_000_000).unwrap();
        let mut stream = Box::pin(stream(feed.clone(), &Tasks::new()));
        feed.looked(Vec::new());
        assert!(stream.next().await.unwrap().unwrap().snapshot_complete);
        for n in 0..3_000 {
            feed.announce(&[Uuid::from_u128(n)], until);
        }
        let mut seen = std::collections::HashSet::new();
        while seen.len() < 3_000 {
            let message = stream.next().await.unwrap().unwrap();
            seen.extend(message.revoked.into_iter().map(|one| one.session_id));
        }
    }

    #[tokio::test]
    async fn only_looks_at_the_table_become_heartbeats() {
        let feed = RevocationFeed::new(Revocations::new());
        let until = Timestamp::from_second(1_700_000_000).unwrap();
        let (own, others) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut stream = Box::pin(stream(feed.clone(), &Tasks::new()));
        feed.announce(&[own], until);
        assert!(
            stream.next().now_or_never().is_none(),
            "nobody has looked yet"
        );
        feed.looked(Vec::new());
        let snapshot = stream.next().await.unwrap().unwrap();
        assert!(snapshot.snapshot_complete && snapshot.revoked.len() == 1);

        feed.announce(&[Uuid::from_u128(3)], until);
        assert_eq!(stream.next().await.unwrap().unwrap().revoked.len(), 1);
        assert!(stream.next().now_or_never().is_none());
        feed.looked(vec![(others, until)]);
        assert_eq!(stream.next().await.unwrap().unwrap().revoked.len(), 1);
        assert_eq!(
            stream.next().await.unwrap().unwrap(),
            WatchRevocationsResponse::default()
        );
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_process() {
        let feed = RevocationFeed::new(Revocations::new());
        let tasks = Tasks::new();
        let mut stream = Box::pin(stream(feed.clone(), &tasks));
        tasks.token().cancel();
        assert!(stream.next().await.is_none());
    }
}
