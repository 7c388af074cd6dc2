use tokio::time::Instant;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::keys::Keys;
use crate::principal::Caller;
use crate::revocation::{Freshness, Revocations};
use crate::test_kit::{IdentityStub, Issuer, eventually};
use crate::token::{AUDIENCE, Claims, ISSUER, Role, TokenError};

const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    issuer: Issuer,
    source: Authenticator,
    stub: IdentityStub,
    source_tasks: Tasks,
    tasks: Tasks,
    follower: Authenticator,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let clock = SystemClock::shared();
        let source = Authenticator::with_revocations(clock.clone(), &keys, Revocations::source());
        let follower = Authenticator::new(clock, &keys);
        let (issuer, source_tasks, tasks) = (Issuer::new(), Tasks::new(), Tasks::new());
        let stub = issuer.serve_identity(&source, &source_tasks).await;
        Self {
            issuer,
            source,
            stub,
            source_tasks,
            tasks,
            follower,
            _dir: dir,
        }
    }

    fn follow(&self) {
        follow("test", &self.follower, self.stub.uri().into(), &self.tasks);
    }

    fn token(&self, issuer: &Issuer, session: Uuid) -> String {
        let now = SystemClock.now().as_second();
        issuer.sign(&Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: Uuid::from_u128(1),
            sid: session,
            role: Role::User,
            email_verified: true,
            gv: 0,
            iat: now,
            exp: now + 900,
            nbf: None,
            jti: Uuid::from_u128(3),
        })
    }
}

#[tokio::test]
async fn keys_and_revocations_arrive_and_stay_fresh() {
    let bench = Bench::start().await;
    let (before, after) = (Uuid::from_u128(10), Uuid::from_u128(11));
    let token = bench.token(&bench.issuer, after);
    assert_eq!(
        bench.follower.authenticate(&token).unwrap_err().reason(),
        "identity_unavailable"
    );
    bench.stub.revoke(before, Timestamp::MAX);
    bench.follow();
    eventually(DEADLINE, || async {
        bench.follower.authenticate(&token).is_ok()
    })
    .await;
    assert!(
        bench.follower.revocations.is_revoked(&before),
        "the snapshot came first"
    );
    let Caller::User(user) = bench.follower.authenticate(&token).unwrap() else {
        panic!("a user")
    };
    assert_eq!(user.session_id, after);

    let told = Instant::now();
    bench.stub.revoke(after, Timestamp::MAX);
    eventually(DEADLINE, || async {
        matches!(bench.follower.authenticate(&token), Err(error) if error.reason() == "token_revoked")
    })
    .await;
    assert!(told.elapsed() < Duration::from_secs(1));
    assert!(
        bench
            .tasks
            .shutdown(Duration::from_secs(5))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn silence_stops_money_and_words_bring_it_back() {
    let bench = Bench::start().await;
    bench.follow();
    eventually(DEADLINE, || async {
        bench.follower.require_fresh().is_ok()
    })
    .await;
    bench.stub.set_silent(true);
    eventually(DEADLINE, || async {
        bench.follower.require_fresh().is_err()
    })
    .await;
    assert_eq!(bench.follower.revocations.freshness(), Freshness::Stale);
    bench.stub.set_silent(false);
    eventually(DEADLINE, || async {
        bench.follower.require_fresh().is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_source_that_comes_back_with_new_keys_is_found_again() {
    let bench = Bench::start().await;
    bench.follow();
    eventually(DEADLINE, || async {
        bench.follower.require_fresh().is_ok()
    })
    .await;
    assert!(
        bench
            .source_tasks
            .shutdown(Duration::from_secs(5))
            .await
            .is_empty()
    );
    eventually(DEADLINE, || async {
        bench.follower.require_fresh().is_err()
    })
    .await;

    let (issuer, revoked, tasks) = (Issuer::new(), Uuid::from_u128(10), Tasks::new());
    let listener = eventually(DEADLINE, || async {
        tokio::net::TcpListener::bind(bench.stub.uri().authority().unwrap().as_str())
            .await
            .ok()
    })
    .await;
    bench.source.revocations.insert(revoked, Timestamp::MAX);
    issuer.serve_identity_on(listener, &bench.source, &tasks);
    let token = bench.token(&issuer, Uuid::from_u128(11));
    eventually(DEADLINE, || async {
        bench.follower.authenticate(&token).is_ok()
    })
    .await;
    eventually(DEADLINE, || async {
        bench.follower.require_fresh().is_ok()
    })
    .await;
    assert!(
        bench.follower.revocations.is_revoked(&revoked),
        "what happened meanwhile is known"
    );
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_few_questions() {
    let bench = Bench::start().await;
    bench.follow();
    eventually(DEADLINE, || async {
        !bench.follower.keys.key_ids().is_empty()
    })
    .await;
    let stranger = Issuer::new();
    let token = bench.token(&stranger, Uuid::from_u128(10));
    let now = SystemClock.now();
    for _ in 0..1000 {
        assert_eq!(
            bench.follower.keys.verify(&token, now),
            Err(TokenError::UnknownKey)
        );
    }
    eventually(DEADLINE, || async { bench.stub.keys_served() >= 2 }).await;
    assert!(
        bench.stub.keys_served() <= 3,
        "{}",
        bench.stub.keys_served()
    );
}

#[test]
fn damaged_entries_are_not_taken_for_none() {
    let good = RevokedSession {
        session_id: Uuid::from_u128(1).to_string(),
        until: Some(prost_types::Timestamp {
            seconds: 5,
            nanos: 0,
        }),
    };
    assert_eq!(read_revoked(&good).unwrap().0, Uuid::from_u128(1));
    assert!(
        read_revoked(&RevokedSession {
            session_id: "x".into(),
            ..good.clone()
        })
        .is_err()
    );
    assert!(
        read_revoked(&RevokedSession {
            until: None,
            ..good
        })
        .is_err()
    );
}
