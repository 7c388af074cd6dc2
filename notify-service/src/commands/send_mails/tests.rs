//! Workers of several replicas on one table of mails.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use jiff::SignedDuration;
use platform::test_kit::{DEADLINE, TestPlatform, eventually};
use platform::work::Work;
use platform::{id, time};
use proto::events::v1::MailSecret;
use uuid::Uuid;

use super::super::send_mail::Policy;
use super::*;
use crate::channels::{Channel, Mail, SendError};
use crate::storage::mails::{NewMail, SENT};
use crate::storage::migrations::Migrator;
use crate::templates::Templates;

/// How often each mail was begun and how often it was sent.
#[derive(Default)]
struct Counting {
    begun: Mutex<BTreeMap<Uuid, u32>>,
    sent: Mutex<BTreeMap<Uuid, u32>>,
    /// Mails that take their time.
    slow: Mutex<BTreeMap<Uuid, Duration>>,
    /// Mails at which the channel breaks.
    breaking: Mutex<Vec<Uuid>>,
}

#[async_trait]
impl Channel for Counting {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        *self.begun.lock().unwrap().entry(mail.id).or_default() += 1;
        assert!(!self.breaking.lock().unwrap().contains(&mail.id), "broken");
        let slow = self.slow.lock().unwrap().get(&mail.id).copied();
        if let Some(slow) = slow {
            tokio::time::sleep(slow).await;
        }
        *self.sent.lock().unwrap().entry(mail.id).or_default() += 1;
        Ok(())
    }
}

struct Office {
    platform: TestPlatform,
    work: Work,
    channel: Arc<Counting>,
    wake: Arc<Notify>,
    replicas: JoinSet<()>,
    stop: CancellationToken,
    at_once: usize,
    lease: Duration,
}

impl Office {
    async fn open() -> Self {
        let platform = TestPlatform::start().await;
        let db = platform.database::<Migrator>("notify").await;
        Self {
            work: Work::new("notify-service", db, platform.clock()),
            platform,
            channel: Arc::default(),
            wake: Arc::default(),
            replicas: JoinSet::new(),
            stop: CancellationToken::new(),
            at_once: 4,
            lease: Duration::from_millis(1500),
        }
    }

    fn mailer(&self) -> Arc<Mailer> {
        Arc::new(Mailer {
            work: self.work.clone(),
            keys: self.platform.handles().keys,
            templates: Templates::load("http://localhost").unwrap(),
            channel: Arc::clone(&self.channel) as _,
            from: "Coffer <coffer@localhost>".parse().unwrap(),
            policy: Policy {
                attempts: 3,
                first_wait: Duration::from_millis(10),
                longest_wait: Duration::from_millis(10),
                send_timeout: Duration::from_secs(30),
                lease: self.lease,
                at_once: self.at_once,
            },
        })
    }

    /// Starts a replica that can be killed.
    fn replica(&mut self) -> tokio::task::AbortHandle {
        let (wake, stop) = (Arc::clone(&self.wake), self.stop.clone());
        self.replicas.spawn(run(self.mailer(), wake, stop))
    }

    async fn queue(&self) -> Uuid {
        let user_id = Uuid::new_v4().to_string();
        let secret = MailSecret {
            to: "asha@example.org".to_owned(),
            name: "Asha".to_owned(),
            values: [("token".to_owned(), "t".to_owned())].into(),
        };
        let keys = self.platform.handles().keys;
        let now = self.work.now();
        let mail = NewMail {
            id: id::new(now),
            event_id: id::new(now),
            sealed: keys.seal_mail(&secret, user_id.as_bytes()),
            user_id,
            template: "verify_email".to_owned(),
            locale: "en".to_owned(),
            expires_at: now + SignedDuration::from_hours(1),
            traceparent: String::new(),
        };
        let id = mail.id;
        let unit = self.work.begin().await.unwrap();
        mails::insert(unit.tx(), mail, now).await.unwrap();
        unit.commit().await.unwrap();
        id
    }

    async fn mail(&self, id: Uuid) -> Model {
        let mail = mails::find(self.work.db().reader(), id).await;
        mail.unwrap().unwrap()
    }

    async fn becomes(&self, id: Uuid, state: &str) -> Model {
        eventually(DEADLINE, || async {
            let mail = self.mail(id).await;
            (mail.state == state).then_some(mail)
        })
        .await
    }

    fn begun(&self, id: Uuid) -> u32 {
        let begun = self.channel.begun.lock().unwrap();
        begun.get(&id).copied().unwrap_or_default()
    }

    /// Stops the replicas and waits for them.
    async fn close(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.replicas.join_next().await {
            assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_send_each_mail_once() {
    let mut office = Office::open().await;
    for _ in 0..3 {
        office.replica();
    }
    let mut ids = Vec::new();
    for _ in 0..150 {
        ids.push(office.queue().await);
        office.wake.notify_waiters();
    }
    for id in &ids {
        let mail = office.becomes(*id, SENT).await;
        assert_eq!((mail.attempts, mail.sealed), (1, None));
    }
    office.close().await;
    let sent = office.channel.sent.lock().unwrap();
    assert_eq!(sent.len(), ids.len());
    assert!(sent.values().all(|times| *times == 1), "{sent:?}");
}

#[tokio::test]
async fn a_mail_that_takes_longer_than_a_lease_is_not_sent_by_another_replica() {
    let mut office = Office::open().await;
    let slow = office.queue().await;
    let pause = Duration::from_secs(4);
    office.channel.slow.lock().unwrap().insert(slow, pause);
    office.replica();
    office.replica();
    let mail = office.becomes(slow, SENT).await;
    assert_eq!(mail.attempts, 1);
    office.close().await;
    assert_eq!(office.begun(slow), 1);
}

#[tokio::test]
async fn the_mails_of_a_replica_that_is_killed_leave_after_a_lease() {
    let mut office = Office::open().await;
    let id = office.queue().await;
    let long = Duration::from_secs(600);
    office.channel.slow.lock().unwrap().insert(id, long);
    let killed = office.replica();
    eventually(DEADLINE, || async { office.begun(id) == 1 }).await;
    office.replica();
    office.channel.slow.lock().unwrap().clear();
    killed.abort();
    let mail = office.becomes(id, SENT).await;
    assert_eq!(mail.attempts, 2);
    office.close().await;
}

#[tokio::test]
async fn one_slow_mail_holds_up_no_other() {
    let mut office = Office::open().await;
    office.at_once = 2;
    let slow = office.queue().await;
    let long = Duration::from_secs(600);
    office.channel.slow.lock().unwrap().insert(slow, long);
    office.replica();
    eventually(DEADLINE, || async { office.begun(slow) == 1 }).await;
    // More than one batch, and some that come later.
    for _ in 0..2 {
        let mut ids = Vec::new();
        for _ in 0..40 {
            ids.push(office.queue().await);
        }
        office.wake.notify_one();
        for id in ids {
            office.becomes(id, SENT).await;
        }
    }
    assert_eq!(office.begun(slow), 1);
}

#[tokio::test]
async fn a_replica_that_stops_finishes_what_it_began_and_gives_back_the_rest() {
    let mut office = Office::open().await;
    office.at_once = 1;
    let first = office.queue().await;
    let pause = Duration::from_millis(300);
    office.channel.slow.lock().unwrap().insert(first, pause);
    let second = office.queue().await;
    office.replica();
    eventually(DEADLINE, || async { office.begun(first) == 1 }).await;
    office.close().await;
    assert_eq!(office.mail(first).await.state, SENT);
    let second = office.mail(second).await;
    assert_eq!((second.state.as_str(), second.attempts), (mails::QUEUED, 0));
    assert!(second.due_at <= time::to_micros(office.work.now()));
}

#[tokio::test]
async fn a_mail_at_which_a_worker_breaks_is_given_up_and_stops_nothing() {
    let mut office = Office::open().await;
    let bad = office.queue().await;
    let good = office.queue().await;
    office.channel.breaking.lock().unwrap().push(bad);
    office.replica();
    office.becomes(good, SENT).await;
    let bad = office.becomes(bad, mails::FAILED).await;
    assert!(bad.last_error.contains("panicked"), "{}", bad.last_error);
    office.close().await;
}

#[tokio::test]
async fn renewing_gives_up_what_another_replica_has_taken_meanwhile() {
    let mut office = Office::open().await;
    office.lease = Duration::from_secs(60);
    let (taken, kept) = (office.queue().await, office.queue().await);
    let (mailer, mut hand) = (office.mailer(), Hand::default());
    look(&mailer, &mut hand).await.unwrap();
    assert_eq!(hand.waiting.len(), 2);
    // Our claims have run out; the other replica, whose claim that is, takes up one of the mails.
    let later = office.work.now() + SignedDuration::from_mins(2);
    let until = later + office.lease;
    let unit = office.work.begin().await.unwrap();
    let others = mails::claim(unit.tx(), later, until, BATCH, vec![kept]).await;
    unit.commit().await.unwrap();
    let others: Vec<Claim> = others.unwrap().iter().map(claim).collect();
    assert_eq!(others, [(taken, 2)]);

    renew(&mailer, &mut hand).await;
    start(&mailer, &mut hand);
    assert!(hand.waiting.is_empty());
    while let Some(landed) = hand.flying.join_next_with_id().await {
        land(&mailer, &mut hand, landed).await;
    }
    assert_eq!((office.begun(taken), office.begun(kept)), (0, 1));
    assert_eq!(office.mail(kept).await.state, SENT);
    let taken = office.mail(taken).await;
    assert_eq!(taken.due_at, time::to_micros(until), "left as it is");
}

#[tokio::test]
async fn a_replica_does_not_claim_again_what_it_has_before_it() {
    let mut office = Office::open().await;
    office.lease = Duration::from_secs(60);
    let id = office.queue().await;
    let (mailer, mut hand) = (office.mailer(), Hand::default());
    look(&mailer, &mut hand).await.unwrap();
    // The claim runs out before it is renewed.
    let unit = office.work.begin().await.unwrap();
    let held = mails::extend(unit.tx(), hand.claims(), unit.now()).await;
    unit.commit().await.unwrap();
    assert_eq!(held.unwrap(), [(id, 1)].into());

    let other = office.queue().await;
    look(&mailer, &mut hand).await.unwrap();
    let claims = hand.claims();
    assert_eq!(claims, [(id, 1), (other, 1)]);
    assert_eq!(office.mail(id).await.attempts, 1);
}

#[tokio::test]
async fn a_replica_that_is_told_to_end_while_it_looks_begins_nothing_more() {
    let mut office = Office::open().await;
    let id = office.queue().await;
    let queued = office.mail(id).await;
    office.replica();
    // On this one thread the replica now runs up to where it waits for the database.
    tokio::task::yield_now().await;
    office.close().await;
    assert_eq!(office.begun(id), 0);
    let mail = office.mail(id).await;
    assert!(mail.updated_at > queued.updated_at, "it was claimed");
    assert_eq!((mail.state.as_str(), mail.attempts), (mails::QUEUED, 0));
}
