//! What one connection, and one client with many, can take from others.

use platform::test_kit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{House, SOON, house, house_with};

const HEALTH: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection, unless it is closed before it answers.
async fn connect(house: &House) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    // A refused one may be closed already.
    let _ = stream.write_all(HEALTH).await;
    let mut answer = [0; 12];
    let read = tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await;
    let is_answered = read.unwrap().is_ok();
    assert!(!is_answered || answer == *b"HTTP/1.1 200");
    is_answered.then_some(stream)
}

#[tokio::test]
async fn an_address_holds_so_many_connections_and_no_more() {
    // One of them is that of the harness.
    let house = house_with(|config| config.max_connections_per_client = 3).await;
    let one = connect(&house).await.unwrap();
    let _two = connect(&house).await.unwrap();
    assert!(connect(&house).await.is_none());
    drop(one);
    eventually(SOON, || async { connect(&house).await }).await;
}

#[tokio::test]
async fn a_proxy_holds_connections_for_many() {
    let house = house_with(|config| {
        config.max_connections_per_client = 1;
        config.trusted_proxies = vec!["127.0.0.0/8".into()];
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(connect(&house).await.unwrap());
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let house = house_with(|config| config.write_timeout_ms = 300).await;
    let open = || {
        let tasks = house.gateway_tasks.running();
        let is_connection = |name: &&String| *name == "gateway-connection";
        tasks.iter().filter(is_connection).count()
    };
    let before = open();
    let (mut reader, mut writer) = TcpStream::connect(house.address)
        .await
        .unwrap()
        .into_split();
    eventually(SOON, || async { open() == before + 1 }).await;
    let ask = tokio::task::spawn(async move {
        let request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
        // Until the other end has gone.
        while writer.write_all(request).await.is_ok() {}
    });
    eventually(SOON, || async { open() == before }).await;
    ask.abort();
    let mut rest = Vec::new();
    // What was on its way may still come, or not.
    let _ = tokio::time::timeout(SOON, reader.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn an_early_refusal_can_be_read_after_a_large_body() {
    let house = house().await;
    let length = 8 << 20;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let head = format!(
        "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // As simple clients do: first everything is written, then the answer is read.
    stream.write_all(&vec![b' '; length]).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
    read.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("payload_too_large"), "{answer}");
}
