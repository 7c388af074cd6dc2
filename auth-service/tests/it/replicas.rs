//! Two processes of the service on one database.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use platform::Error;
use platform::grpc::client::GrpcChannel;
use platform::test_kit::{DEADLINE, ManualClock};
use proto::identity::v1::identity_client::IdentityClient;
use proto::identity::v1::*;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use uuid::Uuid;

use crate::watch_revocations::{next_revoked, watch};
use crate::world::{World, client, open, registration, serve, sign_in};

/// Asks the first replica and the second one in turn, all at once.
async fn at_both<T>(
    world: &World,
    replica: &IdentityClient<GrpcChannel>,
    count: usize,
    call: impl AsyncFn(IdentityClient<GrpcChannel>) -> Result<T, Error>,
) -> Vec<Result<T, Error>> {
    let clients = [world.client.clone(), replica.clone()];
    join_all((0..count).map(|n| call(clients[n % 2].clone()))).await
}

#[tokio::test]
async fn of_registrations_with_one_address_at_both_replicas_one_wins() {
    let world = World::start().await;
    let replica = world.replica(world.config.clone()).await;
    for round in 0..5 {
        // The same address in another case is the same address.
        let addresses = [
            format!("asha{round}@example.org"),
            format!("ASHA{round}@Example.Org"),
        ];
        let calls = addresses
            .iter()
            .zip([world.client.clone(), replica.clone()]);
        let outcomes = join_all(calls.map(|(address, mut client)| {
            let request = world.edge(registration(address));
            async move { open(client.register(request).await) }
        }))
        .await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        let refused = outcomes.into_iter().find_map(Result::err).unwrap();
        assert_eq!(refused.reason(), "email_taken");
    }
    assert_eq!(world.told::<UserRegistered>().await.len(), 5);
    world.end().await;
}

#[tokio::test]
async fn of_refreshes_with_one_token_at_both_replicas_one_wins_and_the_session_ends() {
    let world = World::start().await;
    let replica = world.replica(world.config.clone()).await;
    for round in 0..5 {
        let (_, tokens) = world.member(&format!("asha{round}@example.org")).await;
        let token = &tokens.refresh_token;
        let outcomes = at_both(&world, &replica, 8, async |mut client| {
            let request = RefreshRequest {
                refresh_token: token.clone(),
                client: None,
            };
            open(client.refresh(world.edge(request)).await)
        })
        .await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        let reused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        let reused = reused.filter(|error| error.reason() == "refresh_token_reused");
        assert_eq!(reused.count(), 1, "the others find the session ended");
        assert_eq!(world.told::<SessionRevoked>().await.len(), round + 1);
        // The token of the one that won is of no use either.
        let won = outcomes.into_iter().find_map(Result::ok).unwrap();
        world
            .refresh(&won.tokens.unwrap().refresh_token)
            .await
            .unwrap_err();
    }
    world.end().await;
}

#[tokio::test]
async fn wrong_passwords_are_counted_together_by_both_replicas() {
    let world = World::start_with(|config| config.throttle.sign_in_per_account = 6).await;
    let replica = world.replica(world.config.clone()).await;
    world.register("asha@example.org").await.unwrap();
    let outcomes = at_both(&world, &replica, 30, async |mut client| {
        let wrong = LoginRequest {
            password: "wrong horse battery".to_owned(),
            ..sign_in("asha@example.org")
        };
        open(client.login(world.edge(wrong)).await)
    })
    .await;
    let told = |reason: &str| {
        let errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        errors.filter(|error| error.reason() == reason).count()
    };
    assert_eq!(
        told("invalid_credentials"),
        6,
        "as many as are allowed, wherever"
    );
    assert_eq!(told("too_many_attempts"), 24);
    let error = open(
        replica
            .clone()
            .login(world.edge(sign_in("asha@example.org")))
            .await,
    );
    assert_eq!(error.unwrap_err().reason(), "too_many_attempts");
    let elsewhere = LoginRequest {
        client: Some(client("198.51.100.7")),
        ..sign_in("asha@example.org")
    };
    open(replica.clone().login(world.edge(elsewhere)).await).unwrap();
    world.end().await;
}

#[tokio::test]
async fn sessions_ended_everywhere_at_both_replicas_end_once_each() {
    let world = World::start().await;
    let replica = world.replica(world.config.clone()).await;
    let (_, tokens) = world.member("asha@example.org").await;
    join_all((0..40).map(|_| world.login("asha@example.org"))).await;
    let ended = at_both(&world, &replica, 4, async |mut client| {
        let request = platform::grpc::client::as_user(LogoutAllRequest {}, &tokens.access_token);
        open(client.logout_all(request).await).map(|reply| reply.ended)
    })
    .await;
    // Who comes after the first finds a token that is revoked.
    let ended: i64 = ended.into_iter().filter_map(Result::ok).sum();
    assert_eq!(ended, 41);
    assert_eq!(world.told::<SessionRevoked>().await.len(), 41);
    world.end().await;
}

#[tokio::test]
async fn a_revocation_that_is_committed_late_is_told_by_every_replica() {
    let world = World::start().await;
    let replica = world.replica(world.config.clone()).await;
    let (_, mut stream) = watch(&world, replica).await;
    let session = Uuid::from_u128(7);
    let now = world.platform.clock().now().as_microsecond();
    let unit = world.db.begin().await.unwrap();
    let insert = Statement::from_sql_and_values(
        world.db.backend(),
        "INSERT INTO revocations (session_id, revoked_at, until) VALUES ($1, $2, $3)",
        [session.into(), now.into(), (now + 900_000_000).into()],
    );
    unit.execute_raw(insert).await.unwrap();
    // A server may have a transaction wait for long; a file has one process, whose transactions are short.
    let late = match world.db.backend() {
        DbBackend::Postgres => 120,
        _ => 5,
    };
    world.advance(Duration::from_secs(late));
    for _ in 0..4 {
        let beat = stream.message().await.unwrap().unwrap();
        assert_eq!(
            beat,
            WatchRevocationsResponse::default(),
            "not committed yet"
        );
    }
    unit.commit().await.unwrap();
    let told = next_revoked(&mut stream).await;
    assert_eq!(told.session_id, session.to_string());
    world.end().await;
}

#[tokio::test]
async fn a_replica_whose_clock_is_wrong_hears_of_revocations_too() {
    let world = World::start().await;
    if world.db.backend() != DbBackend::Postgres {
        println!(
            "left out: a file of SQLite has one process with one clock; needs COFFER_TEST_POSTGRES_URL"
        );
        world.end().await;
        return;
    }
    for minutes in [-5, 5] {
        let (_, tokens) = world.member(&format!("asha{minutes}@example.org")).await;
        let mut handles = world.platform.handles();
        let wrong = handles.clock.now() + jiff::SignedDuration::from_mins(minutes);
        handles.clock = Arc::new(ManualClock::new(wrong));
        let replica = serve(world.config.clone(), handles.clone()).await;
        let request = platform::grpc::client::as_service(
            WatchRevocationsRequest {},
            handles.keys.service_tokens(),
            "gateway",
            wrong,
        );
        let mut stream = replica
            .clone()
            .watch_revocations(request)
            .await
            .unwrap()
            .into_inner();
        stream.message().await.unwrap().unwrap();
        world.logout(&tokens.refresh_token).await.unwrap();
        let session = world.claims(&tokens.access_token).await.sid.to_string();
        loop {
            let message = tokio::time::timeout(DEADLINE, stream.message());
            let message = message.await.unwrap().unwrap().unwrap();
            if message.revoked.iter().any(|one| one.session_id == session) {
                break;
            }
        }
    }
    world.end().await;
}

#[tokio::test]
async fn the_feed_survives_the_loss_of_its_connection() {
    let world = World::start().await;
    if world.db.backend() != DbBackend::Postgres {
        println!(
            "left out: a file has no connection that could be lost; needs COFFER_TEST_POSTGRES_URL"
        );
        world.end().await;
        return;
    }
    let replica = world.replica(world.config.clone()).await;
    let (_, mut stream) = watch(&world, replica).await;
    for round in 0..3 {
        let (_, tokens) = world.member(&format!("asha{round}@example.org")).await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let end = Statement::from_string(DbBackend::Postgres, end);
        world.db.reader().query_all_raw(end).await.unwrap();
        let session = world.claims(&tokens.access_token).await.sid.to_string();
        // The first calls may meet connections that were ended.
        platform::test_kit::eventually(DEADLINE, || async {
            world.logout(&tokens.refresh_token).await.is_ok()
        })
        .await;
        assert_eq!(next_revoked(&mut stream).await.session_id, session);
    }
    world.end().await;
}
