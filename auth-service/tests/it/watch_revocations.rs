use std::time::Duration;

use platform::grpc::client::{GrpcChannel, as_user};
use platform::test_kit::{DEADLINE, eventually};
use platform::{Error, Kind};
use proto::identity::v1::identity_client::IdentityClient;
use proto::identity::v1::*;
use sea_orm::{ConnectionTrait, Database as Sql};
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use crate::world::{World, open, registration, sign_in};

pub(crate) async fn watch(
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

pub(crate) async fn next_revoked(
    stream: &mut Streaming<WatchRevocationsResponse>,
) -> RevokedSession {
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
async fn a_watcher_hears_of_a_sign_out() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let session = world.claims(&tokens.access_token).await.sid.to_string();
    let (snapshot, mut stream) = watch(&world, world.client.clone()).await;
    assert!(snapshot.is_empty());

    world.logout(&tokens.refresh_token).await.unwrap();
    let told = next_revoked(&mut stream).await;
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
async fn a_watcher_of_another_replica_hears_of_it_too() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let session = world.claims(&tokens.access_token).await.sid.to_string();
    let replica = world.replica(world.config.clone()).await;
    let (_, mut stream) = watch(&world, replica.clone()).await;

    world.logout(&tokens.refresh_token).await.unwrap();
    assert_eq!(next_revoked(&mut stream).await.session_id, session);

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
    for _ in 0..4 {
        let beat = timeout(DEADLINE, stream.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(beat, WatchRevocationsResponse::default());
    }
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

#[tokio::test]
async fn without_looks_at_the_table_reads_go_on_and_changes_wait() {
    let world = World::start().await;
    let (_, tokens) = world.member("asha@example.org").await;
    let admin = Sql::connect(&world.config.database.url).await.unwrap();
    admin
        .execute_unprepared("ALTER TABLE revocations RENAME TO away")
        .await
        .unwrap();
    let access = &tokens.access_token;
    let refused = |error: &Error| error.reason() == "revocation_state_unknown";
    eventually(DEADLINE, || async {
        let request = as_user(LogoutAllRequest {}, access);
        let answer = open(world.client.clone().logout_all(request).await);
        answer.is_err_and(|error| refused(&error))
    })
    .await;
    let request = as_user(UpdateProfileRequest::default(), access);
    let error = open(world.client.clone().update_profile(request).await).unwrap_err();
    assert!(refused(&error), "{error}");
    let request = as_user(ResendVerificationRequest {}, access);
    let error = open(world.client.clone().resend_verification(request).await).unwrap_err();
    assert!(refused(&error), "{error}");
    world.profile(access).await.unwrap();

    admin
        .execute_unprepared("ALTER TABLE away RENAME TO revocations")
        .await
        .unwrap();
    admin.close().await.unwrap();
    assert_eq!(world.logout_all(access).await.unwrap(), 1);
    world.end().await;
}

#[tokio::test]
async fn each_call_of_a_service_is_for_those_that_need_it() {
    let world = World::start().await;
    let client = || world.client.clone();
    for name in ["wallet-service", "notify-service", "scheduler-service"] {
        let request = world.service(name, GetJwksRequest {});
        open(client().get_jwks(request).await).unwrap();
        let request = world.service(name, WatchRevocationsRequest {});
        assert!(client().watch_revocations(request).await.is_ok(), "{name}");
    }
    let stranger = "somebody";
    let wallet = "wallet-service";
    let login = world.service(wallet, sign_in("asha@example.org"));
    let register = world.service(wallet, registration("asha@example.org"));
    let refresh = world.service(wallet, RefreshRequest::default());
    let logout = world.service(wallet, LogoutRequest::default());
    let verify = world.service(wallet, VerifyEmailRequest::default());
    let keys = world.service(stranger, GetJwksRequest {});
    let watch = world.service(stranger, WatchRevocationsRequest {});
    let refused = [
        open(client().login(login).await).err(),
        open(client().register(register).await).err(),
        open(client().refresh(refresh).await).err(),
        open(client().logout(logout).await).err(),
        open(client().verify_email(verify).await).err(),
        open(client().get_jwks(keys).await).err(),
        open(client().watch_revocations(watch).await).err(),
    ];
    for error in refused {
        let error = error.unwrap();
        assert_eq!(
            (error.kind(), error.reason()),
            (Kind::PermissionDenied, "service_not_allowed")
        );
    }
    world.end().await;
}
