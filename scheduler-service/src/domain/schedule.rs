//! A schedule: what it may become, and how far its messages have come.

use jiff::Timestamp;
use uuid::Uuid;

use super::MessageState;

/// Where a schedule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// No recipients yet.
    Draft,
    /// Waits for its time.
    Scheduled,
    /// Its first message was claimed.
    Running,
    /// Every message is final.
    Finished,
    /// Stopped; messages that the provider had may still come to their end.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Draft,
        Self::Scheduled,
        Self::Running,
        Self::Finished,
        Self::Cancelled,
    ];

    /// The word for it, on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of a word of [`Status::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// Messages by state. Kept exact in the transaction that moves a message, so progress is never a scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([i64; MessageState::ALL.len()]);

impl Counts {
    /// Counts in the order of [`MessageState::ALL`].
    pub fn from_array(counts: [i64; MessageState::ALL.len()]) -> Self {
        Self(counts)
    }

    /// All of them queued.
    pub fn queued(messages: i64) -> Self {
        let mut counts = Self::default();
        counts.0[MessageState::Queued.index()] = messages;
        counts
    }

    /// Messages in one state.
    pub fn of(&self, state: MessageState) -> i64 {
        self.0[state.index()]
    }

    /// Messages in all.
    pub fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// Messages that may still change.
    pub fn open(&self) -> i64 {
        MessageState::ALL
            .into_iter()
            .filter(|s| !s.is_final())
            .map(|s| self.of(s))
            .sum()
    }

    /// Moves messages from one state to another.
    pub fn shift(&mut self, from: MessageState, to: MessageState, messages: i64) {
        self.0[from.index()] -= messages;
        self.0[to.index()] += messages;
    }

    /// States that have messages, with their counts.
    pub fn present(&self) -> impl Iterator<Item = (MessageState, i64)> + '_ {
        MessageState::ALL
            .into_iter()
            .map(|s| (s, self.of(s)))
            .filter(|(_, n)| *n != 0)
    }
}

/// Why a schedule does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Recipients can only change before the start.
    #[error("the schedule has started or ended; its recipients can no longer change")]
    Started,
    /// What has ended cannot be cancelled.
    #[error("the schedule has finished")]
    Finished,
}

/// A text to many numbers at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// UUIDv7.
    pub id: Uuid,
    /// Who created it.
    pub user_id: Uuid,
    /// The set of recipients that counts; an upload brings a new one.
    pub set_id: Uuid,
    /// What the user calls it.
    pub name: String,
    /// The text.
    pub message: String,
    /// Name of the provider that sends it.
    pub provider: String,
    /// Where it stands.
    pub status: Status,
    /// When to start.
    pub run_at: Timestamp,
    /// Messages by state; their total is the number of recipients.
    pub counts: Counts,
    /// When a worker has to look at it next; `None` when there is nothing to claim.
    pub claim_at: Option<Timestamp>,
    /// UTC day on whose quota its recipients stand.
    pub charged_day: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the first message was claimed.
    pub started_at: Option<Timestamp>,
    /// When the last message was final.
    pub finished_at: Option<Timestamp>,
    /// Rises with each change.
    pub version: i64,
}

impl Schedule {
    /// Takes a new set of recipients in place of the old one.
    ///
    /// # Errors
    /// [`Refusal::Started`] once it runs or has ended.
    pub fn replace_recipients(
        &mut self,
        set_id: Uuid,
        recipients: i64,
        day: i64,
    ) -> Result<(), Refusal> {
        if !matches!(self.status, Status::Draft | Status::Scheduled) {
            return Err(Refusal::Started);
        }
        self.set_id = set_id;
        self.counts = Counts::queued(recipients);
        self.charged_day = day;
        (self.status, self.claim_at) = if recipients > 0 {
            (Status::Scheduled, Some(self.run_at))
        } else {
            (Status::Draft, None)
        };
        self.version += 1;
        Ok(())
    }

    /// Notes that `messages` of the queued were claimed at `now`, and asks for the next look: at once, after the
    /// schedules that wait longer.
    pub fn claimed(&mut self, messages: i64, now: Timestamp) {
        if self.status == Status::Scheduled {
            self.status = Status::Running;
            self.started_at = Some(now);
            self.version += 1;
        }
        self.counts
            .shift(MessageState::Queued, MessageState::Sending, messages);
        self.look_again(now);
    }

    /// Notes that `messages` went from one state to another.
    pub fn moved(&mut self, from: MessageState, to: MessageState, messages: i64, now: Timestamp) {
        self.counts.shift(from, to, messages);
        if to == MessageState::Queued || from == MessageState::Queued {
            self.look_again(now);
        }
    }

    /// Stops it. Tells whether that changed anything.
    ///
    /// # Errors
    /// [`Refusal::Finished`] when every message is final already.
    pub fn cancel(&mut self, now: Timestamp) -> Result<bool, Refusal> {
        match self.status {
            Status::Finished => Err(Refusal::Finished),
            Status::Cancelled => Ok(false),
            Status::Draft | Status::Scheduled | Status::Running => {
                self.status = Status::Cancelled;
                self.version += 1;
                self.look_again(now);
                Ok(true)
            }
        }
    }

    /// Ends it when every message is final. Tells whether it ended just now; that happens once.
    pub fn settle(&mut self, now: Timestamp) -> bool {
        let over = matches!(self.status, Status::Running | Status::Cancelled);
        if !over || self.finished_at.is_some() || self.counts.open() > 0 {
            return false;
        }
        if self.status == Status::Running {
            self.status = Status::Finished;
        }
        self.finished_at = Some(now);
        self.claim_at = None;
        self.version += 1;
        true
    }

    fn look_again(&mut self, now: Timestamp) {
        self.claim_at = (self.counts.of(MessageState::Queued) > 0).then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn draft() -> Schedule {
        Schedule {
            id: Uuid::nil(),
            user_id: Uuid::nil(),
            set_id: Uuid::nil(),
            name: String::new(),
            message: "hi".to_owned(),
            provider: "simulator".to_owned(),
            status: Status::Draft,
            run_at: at(100),
            counts: Counts::default(),
            claim_at: None,
            charged_day: 0,
            created_at: at(0),
            started_at: None,
            finished_at: None,
            version: 1,
        }
    }

    #[test]
    fn a_draft_waits_for_recipients_and_then_for_its_time() {
        let mut schedule = draft();
        schedule.replace_recipients(Uuid::max(), 3, 0).unwrap();
        assert_eq!(
            (schedule.status, schedule.claim_at),
            (Status::Scheduled, Some(at(100)))
        );
        schedule.replace_recipients(Uuid::nil(), 0, 0).unwrap();
        assert_eq!((schedule.status, schedule.claim_at), (Status::Draft, None));
    }

    #[test]
    fn recipients_stay_once_it_has_started() {
        let mut schedule = draft();
        schedule.replace_recipients(Uuid::max(), 3, 0).unwrap();
        schedule.claimed(1, at(100));
        assert_eq!(
            schedule.replace_recipients(Uuid::nil(), 1, 0),
            Err(Refusal::Started)
        );
        assert_eq!(schedule.started_at, Some(at(100)));
    }

    #[test]
    fn it_finishes_once_with_the_last_message() {
        let mut schedule = draft();
        schedule.replace_recipients(Uuid::max(), 2, 0).unwrap();
        schedule.claimed(2, at(100));
        assert_eq!(schedule.claim_at, None);
        schedule.moved(MessageState::Sending, MessageState::Sent, 2, at(101));
        schedule.moved(MessageState::Sent, MessageState::Delivrd, 1, at(102));
        assert!(!schedule.settle(at(102)));
        schedule.moved(MessageState::Sent, MessageState::Unknown, 1, at(103));
        assert!(schedule.settle(at(103)));
        assert!(!schedule.settle(at(104)));
        assert_eq!(
            (schedule.status, schedule.finished_at),
            (Status::Finished, Some(at(103)))
        );
        assert_eq!(schedule.cancel(at(105)), Err(Refusal::Finished));
    }

    #[test]
    fn a_cancelled_one_ends_with_what_was_under_way() {
        let mut schedule = draft();
        schedule.replace_recipients(Uuid::max(), 5, 0).unwrap();
        schedule.claimed(2, at(100));
        assert_eq!(schedule.cancel(at(101)), Ok(true));
        assert_eq!(schedule.cancel(at(102)), Ok(false));
        assert_eq!(
            schedule.claim_at,
            Some(at(101)),
            "the queued ones are still to be struck"
        );
        schedule.moved(MessageState::Queued, MessageState::Cancelled, 3, at(102));
        assert!(!schedule.settle(at(102)));
        schedule.moved(MessageState::Sending, MessageState::Rejectd, 2, at(103));
        assert!(schedule.settle(at(103)));
        assert_eq!(schedule.status, Status::Cancelled);
    }

    #[test]
    fn an_empty_draft_ends_when_it_is_cancelled() {
        let mut schedule = draft();
        assert!(!schedule.settle(at(1)));
        schedule.cancel(at(1)).unwrap();
        assert!(schedule.settle(at(1)));
    }

    proptest! {
        #[test]
        fn counts_always_sum_to_the_recipients(
            moves in proptest::collection::vec((0_usize..11, 0_usize..11, 1_i64..5), 0..60)
        ) {
            let mut schedule = draft();
            schedule.replace_recipients(Uuid::max(), 50, 0).unwrap();
            for (from, to, n) in moves {
                let (from, to) = (MessageState::ALL[from], MessageState::ALL[to]);
                if from.may_become(to) && schedule.counts.of(from) >= n {
                    schedule.moved(from, to, n, at(1));
                }
                prop_assert_eq!(schedule.counts.total(), 50);
                prop_assert_eq!(
                    schedule.claim_at.is_some(),
                    schedule.counts.of(MessageState::Queued) > 0
                );
            }
        }
    }
}
