//! Calls to a service with several replicas.

use std::net::SocketAddr;

use platform::grpc::client::{self, GrpcChannel, Upstream};
use platform::grpc::server::Server;
use platform::grpc::tls::{Tls, TlsConfig};
use platform::health::Health;
use platform::test_kit::{DEADLINE, IdentityStub, Issuer, TestPlatform, eventually};
use platform::{Handles, Tasks};
use proto::identity::v1::GetJwksRequest;
use proto::identity::v1::identity_client::IdentityClient;
use proto::identity::v1::identity_server::IdentityServer;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::service::Routes;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

struct Replica {
    address: SocketAddr,
    tasks: Tasks,
    health: Health,
    stub: IdentityStub,
}

impl Replica {
    async fn start(platform: &TestPlatform, tls: Option<Tls>) -> Self {
        let authenticator = platform.authenticator();
        let handles = Handles {
            tasks: Tasks::new(),
            health: Health::default(),
            tls,
            ..platform.handles()
        };
        let stub = Issuer::new()
            .serve_identity(&authenticator, &handles.tasks)
            .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Server::new("replica", authenticator)
            .of_process(&handles)
            .serve(
                listener,
                Routes::new(IdentityServer::new(stub.clone())),
                &handles.tasks,
            );
        Self {
            address,
            tasks: handles.tasks,
            health: handles.health,
            stub,
        }
    }
}

async fn ask(platform: &TestPlatform, channel: &GrpcChannel) -> Result<(), Status> {
    let handles = platform.handles();
    let tokens = handles.keys.service_tokens();
    let request = client::as_service(GetJwksRequest {}, tokens, "test", handles.clock.now());
    IdentityClient::new(channel.clone())
        .get_jwks(request)
        .await
        .map(drop)
}

fn upstream(scheme: &str, replicas: &[&Replica], tls: Option<&Tls>) -> Upstream {
    let urls: Vec<String> = replicas
        .iter()
        .map(|one| format!("{scheme}://{}", one.address))
        .collect();
    Upstream::parse(&urls.join(","), tls).unwrap()
}

/// Waits until both replicas have taken calls, so that the channel knows both.
async fn both_are_known(platform: &TestPlatform, channel: &GrpcChannel, replicas: [&Replica; 2]) {
    eventually(DEADLINE, || async {
        let _ = ask(platform, channel).await;
        replicas.iter().all(|one| one.stub.keys_served() > 0)
    })
    .await;
}

#[tokio::test]
async fn every_replica_takes_its_share() {
    let platform = TestPlatform::start().await;
    let (one, two) = (
        Replica::start(&platform, None).await,
        Replica::start(&platform, None).await,
    );
    let channel = client::balanced(
        &upstream("http", &[&one, &two], None),
        &platform.handles().tasks,
    );
    both_are_known(&platform, &channel, [&one, &two]).await;
    let before = (one.stub.keys_served(), two.stub.keys_served());
    for _ in 0..200 {
        ask(&platform, &channel).await.unwrap();
    }
    let shares = (
        one.stub.keys_served() - before.0,
        two.stub.keys_served() - before.1,
    );
    assert!(shares.0 > 40 && shares.1 > 40, "{shares:?}");
}

#[tokio::test]
async fn a_replica_that_is_gone_costs_no_call_once_it_is_noticed() {
    let platform = TestPlatform::start().await;
    let (one, two) = (
        Replica::start(&platform, None).await,
        Replica::start(&platform, None).await,
    );
    let channel = client::balanced(
        &upstream("http", &[&one, &two], None),
        &platform.handles().tasks,
    );
    both_are_known(&platform, &channel, [&one, &two]).await;
    one.tasks.shutdown(DEADLINE).await;
    eventually(DEADLINE, || async {
        let mut sound = true;
        for _ in 0..20 {
            sound &= ask(&platform, &channel).await.is_ok();
        }
        sound
    })
    .await;
    for _ in 0..100 {
        ask(&platform, &channel).await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_that_drains_gets_no_new_calls_and_fails_none() {
    let platform = TestPlatform::start().await;
    let (one, two) = (
        Replica::start(&platform, None).await,
        Replica::start(&platform, None).await,
    );
    let channel = client::balanced(
        &upstream("http", &[&one, &two], None),
        &platform.handles().tasks,
    );
    both_are_known(&platform, &channel, [&one, &two]).await;
    one.health.drain();
    assert!(!one.health.is_ready());
    eventually(DEADLINE, || async {
        let before = one.stub.keys_served();
        for _ in 0..20 {
            ask(&platform, &channel)
                .await
                .expect("no call fails while it drains");
        }
        one.stub.keys_served() == before
    })
    .await;
}

#[tokio::test]
async fn where_no_replica_serves_somebody_is_asked_all_the_same() {
    let platform = TestPlatform::start().await;
    let (one, two) = (
        Replica::start(&platform, None).await,
        Replica::start(&platform, None).await,
    );
    one.health.drain();
    two.health.drain();
    let channel = client::balanced(
        &upstream("http", &[&one, &two], None),
        &platform.handles().tasks,
    );
    eventually(DEADLINE, || async {
        ask(&platform, &channel).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_name_stands_for_its_addresses() {
    let platform = TestPlatform::start().await;
    let one = Replica::start(&platform, None).await;
    let named = format!("http://localhost:{}", one.address.port());
    let channel = client::balanced(&named.parse().unwrap(), &platform.handles().tasks);
    eventually(DEADLINE, || async {
        ask(&platform, &channel).await.is_ok()
    })
    .await;
}

/// An authority, and a certificate of it for `localhost` and the loopback address.
fn certificates(dir: &std::path::Path, name: &str) -> Tls {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let file = |kind: &str, text: String| {
        let path = dir.join(format!("{name}.{kind}"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = TlsConfig {
        certificate: file("crt", leaf.pem()),
        key: file("key", key.serialize_pem()),
        ca: file("ca", root.pem()),
    };
    Tls::load(&config).unwrap().unwrap()
}

#[tokio::test]
async fn with_tls_only_callers_of_our_authority_are_heard() {
    let platform = TestPlatform::start().await;
    let ours = certificates(platform.dir(), "ours");
    let theirs = certificates(platform.dir(), "theirs");
    let one = Replica::start(&platform, Some(ours.clone())).await;
    let tasks = platform.handles().tasks;

    let trusted = client::balanced(&upstream("https", &[&one], Some(&ours)), &tasks);
    ask(&platform, &trusted).await.unwrap();
    let stranger = client::balanced(&upstream("https", &[&one], Some(&theirs)), &tasks);
    ask(&platform, &stranger).await.unwrap_err();
    let in_the_clear = client::balanced(&upstream("http", &[&one], None), &tasks);
    ask(&platform, &in_the_clear).await.unwrap_err();
    assert_eq!(one.stub.keys_served(), 1);
}

#[tokio::test]
async fn tools_learn_the_contracts_by_reflection() {
    let platform = TestPlatform::start().await;
    let one = Replica::start(&platform, None).await;
    let channel = tonic::transport::Endpoint::new(format!("http://{}", one.address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(question))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = listed.service.into_iter().map(|one| one.name).collect();
    for name in [
        "identity.v1.Identity",
        "wallet.v1.Wallet",
        "grpc.health.v1.Health",
    ] {
        assert!(
            names.iter().any(|one| one == name),
            "{names:?} lacks {name}"
        );
    }
}
