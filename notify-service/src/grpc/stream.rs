//! One open stream: pages from the database, then whatever comes.
//!
//! The reader is pulled by the connection: it reads the next page only when the one before has been taken, so a slow
//! client holds back its own reader and nothing else, and memory stays at one page.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use platform::fanout::{Fanout, FanoutReceiver};
use platform::principal::Principal;
use platform::revocation::Revocations;
use platform::work::Work;
use platform::{Error, Kind, Tasks};
use proto::notify::v1::SubscribeResponse;
use tonic::Status;
use uuid::Uuid;

use super::{Service, convert};
use crate::domain::position::PositionError;
use crate::error::position_error;
use crate::storage::entities::stream_events;
use crate::{pokes, queries};

/// Events in one read.
const PAGE: u64 = 256;
/// A quiet stream looks by itself after `look_every`, doubled up to this many times that.
const QUIETEST: u32 = 8;
/// Pause before listening again when pokes were lost, so that a broken carrier does not keep us busy.
const LISTEN_AGAIN: Duration = Duration::from_millis(50);
/// How long a carrier of pokes may take to listen; without it the timer has to do.
const LISTEN_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    work: Work,
    fanout: Arc<dyn Fanout>,
    revocations: Revocations,
    tasks: Tasks,
    look_every: Duration,
    user_id: Uuid,
    session_id: Uuid,
    /// The first frame, until it was given.
    ready: Option<SubscribeResponse>,
    /// Number of the last event that was read.
    after: i64,
    page: VecDeque<stream_events::Model>,
    /// Pokes about the stream; `None` when the carrier does not answer: then the timer has to do.
    pokes: Option<FanoutReceiver>,
    /// Whether there may be events that were not read yet.
    behind: bool,
    /// Looks in a row that found nothing.
    quiet: u32,
}

impl Reader {
    /// Opens a stream after `after`, or after what the device acknowledged last.
    ///
    /// # Errors
    /// `stream_position_lost` when events in between are gone; `invalid_argument` on `after`.
    pub(super) async fn open(
        service: &Service,
        user: &Principal,
        device: &str,
        after: Option<i64>,
    ) -> Result<Self, Error> {
        // Listen first: what is committed after the look below pokes us, what was before is in it.
        let pokes = listen(&service.fanout, user.user_id).await;
        let (extent, start) = queries::start_of(&service.work, user.user_id, device, after).await?;
        Ok(Self {
            work: service.work.clone(),
            fanout: Arc::clone(&service.fanout),
            revocations: service.revocations.clone(),
            tasks: service.tasks.clone(),
            look_every: service.look_every,
            user_id: user.user_id,
            session_id: user.session_id,
            ready: Some(convert::ready(extent.head)),
            after: start,
            page: VecDeque::new(),
            pokes,
            behind: start < extent.head,
            quiet: 0,
        })
    }

    /// The frames of the stream. Ends with an error when the stream cannot go on without a gap, the session was ended,
    /// or the service shuts down.
    pub(super) fn into_stream(self) -> BoxStream<'static, Result<SubscribeResponse, Status>> {
        stream::unfold(Some(self), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(frame) => Some((Ok(frame), Some(reader))),
                Err(error) => Some((Err(error.into()), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<SubscribeResponse, Error> {
        if let Some(ready) = self.ready.take() {
            return Ok(ready);
        }
        loop {
            if let Some(event) = self.page.pop_front() {
                return Ok(convert::event(event));
            }
            if !self.behind {
                self.wait().await?;
            }
            self.read_page().await?;
        }
    }

    /// Reads what comes after the last event. Numbers are given out under the lock of the user's row, so they become
    /// visible in order; a number that is missing has been removed.
    async fn read_page(&mut self) -> Result<(), Error> {
        if self.revocations.is_revoked(&self.session_id) {
            let message = "the session was ended";
            return Err(Error::new(Kind::Unauthenticated, "token_revoked", message));
        }
        let page = queries::events_after(&self.work, self.user_id, self.after, PAGE).await?;
        self.behind = page.len() as u64 == PAGE;
        let Some(first) = page.first() else {
            self.quiet = self.quiet.saturating_add(1);
            return Ok(());
        };
        if first.seq != self.after + 1 {
            let lost = PositionError::Lost {
                after: self.after,
                first_kept: first.seq,
            };
            return Err(position_error("after", lost));
        }
        self.quiet = 0;
        self.after = page.last().map_or(self.after, |last| last.seq);
        self.page = page.into();
        Ok(())
    }

    /// Waits until there may be something new.
    async fn wait(&mut self) -> Result<(), Error> {
        // Who is poked may look seldom, who is not must look himself.
        let factor = match self.pokes {
            Some(_) => 2_u32.saturating_pow(self.quiet).min(QUIETEST),
            None => 1,
        };
        let clock = Arc::clone(self.work.clock());
        let look_at = clock.now() + self.look_every * factor;
        let shutdown = self.tasks.token();
        let poked = async {
            match &mut self.pokes {
                Some(pokes) => pokes.recv().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {
                Err(Error::unavailable("shutting_down", "the service is about to stop"))
            }
            whole = poked => {
                if !whole {
                    tokio::time::sleep(LISTEN_AGAIN).await;
                    self.pokes = listen(&self.fanout, self.user_id).await;
                }
                Ok(())
            }
            () = clock.sleep_until(look_at) => {
                if self.pokes.is_none() {
                    self.pokes = listen(&self.fanout, self.user_id).await;
                }
                Ok(())
            }
        }
    }
}

async fn listen(fanout: &Arc<dyn Fanout>, user_id: Uuid) -> Option<FanoutReceiver> {
    let topic = pokes::topic(user_id);
    match tokio::time::timeout(LISTEN_WITHIN, fanout.subscribe(&topic)).await {
        Ok(Ok(receiver)) => Some(receiver),
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot listen for pokes, looking by the clock");
            None
        }
        Err(_) => {
            tracing::debug!("no answer about listening for pokes, looking by the clock");
            None
        }
    }
}
