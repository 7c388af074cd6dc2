use std::time::Duration;

use platform::grpc::client::GrpcChannel;
use platform::test_kit::DEADLINE;
use proto::identity::v1::identity_client::IdentityClient;
use proto::identity::v1::*;
use sea_orm::{ConnectionTrait, Database as Sql};
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use crate::world::World;

async fn watch(
    world: &World,
    mut client: IdentityClient<GrpcChannel>,
) -> (Vec<String>, Streaming<WatchRevocationsResponse>) {
    let request = world.edge(WatchRevocationsRequest {});
    let mut stream = client
        .watch_revocations(request)
        .await
        .unwrap()
        .into_inner();
    let mut snapshot = Vec::new();
    loop {
        let message = timeout(DEADLINE, stream.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        snapshot.extend(message.revoked.into_iter().map(|one| one.session_id));
        if message.snapshot_complete {
            return (snapshot, stream);
        }
    }
}

async fn next_revoked(stream: &mut Streaming<WatchRevocationsResponse>) -> RevokedSession {
    loop {
        let message = timeout(DEADLINE, stream.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        if let Some(one) = message.revoked.into_iter().next() {
            return one;
        }
    }
}

#[tokio::test]
async fn a_watcher_hears_of_a_sign_out_within_a_second() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let session = world.claims(&tokens.access_token).await.sid.to_string();
    let (snapshot, mut stream) = watch(&world, world.client.clone()).await;
    assert!(snapshot.is_empty());

    world.logout(&tokens.refresh_token).await.unwrap();
    let committed = Instant::now();
    let told = next_revoked(&mut stream).await;
    assert!(committed.elapsed() < Duration::from_secs(1));
    assert_eq!(told.session_id, session);
    let now = world.platform.clock().now().as_second();
    assert!(
        told.until.unwrap().seconds >= now + 900,
        "as long as a token may live"
    );

    let (snapshot, _) = watch(&world, world.client.clone()).await;
    assert_eq!(
        snapshot,
        [session],
        "who comes later finds it in the snapshot"
    );
    world.end().await;
}

#[tokio::test]
async fn a_watcher_of_another_replica_hears_of_it_within_a_second_too() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let session = world.claims(&tokens.access_token).await.sid.to_string();
    let replica = world.replica(world.config.clone()).await;
    let (_, mut stream) = watch(&world, replica.clone()).await;

    world.logout(&tokens.refresh_token).await.unwrap();
    let committed = Instant::now();
    assert_eq!(next_revoked(&mut stream).await.session_id, session);
    assert!(committed.elapsed() < Duration::from_secs(1));

    let request = platform::grpc::client::as_user(GetProfileRequest {}, &tokens.access_token);
    let status = replica.clone().get_profile(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    world.end().await;
}

#[tokio::test]
async fn what_was_revoked_survives_a_restart() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let session = world.claims(&tokens.access_token).await.sid.to_string();
    world.logout(&tokens.refresh_token).await.unwrap();
    let restarted = world.replica(world.config.clone()).await;
    let (snapshot, _) = watch(&world, restarted).await;
    assert_eq!(snapshot, [session]);
    world.end().await;
}

#[tokio::test]
async fn heartbeats_come_while_the_table_can_be_read_and_stop_while_not() {
    let world = World::start().await;
    let (_, mut stream) = watch(&world, world.client.clone()).await;
    let start = Instant::now();
    for _ in 0..4 {
        let beat = timeout(DEADLINE, stream.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(beat, WatchRevocationsResponse::default());
    }
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "four beats a second, give or take"
    );

    let admin = Sql::connect(&world.config.database.url).await.unwrap();
    admin
        .execute_unprepared("ALTER TABLE revocations RENAME TO away")
        .await
        .unwrap();
    let silence = Duration::from_millis(700);
    let end = Instant::now() + DEADLINE;
    while timeout(silence, stream.message()).await.is_ok() {
        assert!(Instant::now() < end, "heartbeats go on without the table");
    }
    admin
        .execute_unprepared("ALTER TABLE away RENAME TO revocations")
        .await
        .unwrap();
    timeout(DEADLINE, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    admin.close().await.unwrap();
    world.end().await;
}
