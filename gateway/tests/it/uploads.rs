use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use platform::test_kit::eventually;
use reqwest::{Body, Method, RequestBuilder};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::harness::{House, SOON, house, house_with, refused};

type Pieces = mpsc::Sender<Result<Bytes, std::io::Error>>;

fn upload(house: &House, id: Uuid) -> (Pieces, RequestBuilder) {
    let (pieces, mut receiver) = mpsc::channel(1);
    let body = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let request = house
        .member(Method::PUT, &format!("/v1/sms/schedules/{id}/recipients"))
        .header("content-type", "text/csv")
        .body(Body::wrap_stream(body.boxed()));
    (pieces, request)
}

#[tokio::test]
async fn a_file_goes_through_while_it_arrives() {
    let house = house().await;
    let (pieces, request) = upload(&house, house.user);
    let send = async {
        pieces
            .send(Ok(Bytes::from_static(b"to\n+27821234567\n")))
            .await
            .unwrap();
        // The service has the first piece before the last one is written.
        eventually(SOON, || async {
            house.seen.upload.lock().unwrap().bytes == 16
        })
        .await;
        // Larger than a body of JSON may be.
        let mut hash = house.seen.upload.lock().unwrap().hash;
        for n in 0..30_u8 {
            let piece = vec![n; 100_000];
            for byte in &piece {
                hash = hash.wrapping_mul(31).wrapping_add(u64::from(*byte));
            }
            pieces.send(Ok(piece.into())).await.unwrap();
        }
        drop(pieces);
        hash
    };
    let (response, hash) = tokio::join!(request.send(), send);
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    let report: serde_json::Value = response.json().await.unwrap();
    assert_eq!(
        (&report["accepted"], &report["rejected"]),
        (&2.into(), &1.into())
    );
    let seen = house.seen.upload.lock().unwrap().clone();
    assert_eq!(seen.schedule_id, house.user.to_string());
    assert_eq!((seen.bytes, seen.hash), (16 + 30 * 100_000, hash));
    assert!(
        seen.complete && seen.ended && seen.largest_chunk <= 1024 * 1024,
        "{seen:?}"
    );
}

#[tokio::test]
async fn half_a_file_never_looks_like_a_whole() {
    let house = house().await;
    let (pieces, request) = upload(&house, house.user);
    let send = async move {
        pieces
            .send(Ok(Bytes::from_static(b"+27821234567\n")))
            .await
            .unwrap();
        eventually(SOON, || async {
            house.seen.upload.lock().unwrap().bytes == 13
        })
        .await;
        // The client goes away in the middle.
        let _ = pieces.send(Err(std::io::Error::other("unplugged"))).await;
        eventually(SOON, || async { house.seen.upload.lock().unwrap().broke }).await;
        house.seen.upload.lock().unwrap().complete
    };
    let (response, complete) = tokio::join!(request.send(), send);
    assert!(response.is_err() && !complete);
}

#[tokio::test]
async fn a_file_that_stalls_is_given_up() {
    let house = house_with(|config| config.upload_idle_timeout_ms = 100).await;
    let (pieces, request) = upload(&house, house.user);
    pieces.send(Ok(Bytes::from_static(b"+27"))).await.unwrap();
    let refusal = refused(request).await;
    assert_eq!((refusal.status, refusal.code()), (408, "request_timeout"));
    eventually(SOON, || async { house.seen.upload.lock().unwrap().broke }).await;
    assert!(!house.seen.upload.lock().unwrap().complete);
    drop(pieces);
}

#[tokio::test]
async fn an_upload_may_take_longer_than_other_requests() {
    let house = house_with(|config| config.request_timeout_ms = 50).await;
    let (pieces, request) = upload(&house, house.user);
    let send = async {
        pieces.send(Ok(Bytes::from_static(b"+2782"))).await.unwrap();
        let start = Instant::now();
        eventually(SOON, || async {
            start.elapsed() > Duration::from_millis(150)
        })
        .await;
        pieces
            .send(Ok(Bytes::from_static(b"1234567")))
            .await
            .unwrap();
        drop(pieces);
    };
    let (response, ()) = tokio::join!(request.send(), send);
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused() {
    let house = house_with(|config| config.upload_limit_bytes = 1_000).await;
    let (pieces, request) = upload(&house, house.user);
    let send = async move {
        for _ in 0..20 {
            if pieces.send(Ok(Bytes::from(vec![b'1'; 100]))).await.is_err() {
                break;
            }
        }
    };
    let (refusal, ()) = tokio::join!(refused(request), send);
    assert_eq!((refusal.status, refusal.code()), (413, "payload_too_large"));
    eventually(SOON, || async { house.seen.upload.lock().unwrap().broke }).await;
    assert!(!house.seen.upload.lock().unwrap().complete);
}

#[tokio::test]
async fn refusals_of_an_upload_have_their_statuses() {
    let house = house().await;
    let path = format!("/v1/sms/schedules/{}/recipients", house.user);
    let other_type = house
        .member(Method::PUT, &path)
        .json(&serde_json::json!([]));
    assert_eq!(refused(other_type).await.status, 415);
    let nobody = house
        .request(Method::PUT, &path)
        .header("content-type", "text/csv")
        .body("x");
    assert_eq!(refused(nobody).await.status, 401);
    let unknown = house
        .member(
            Method::PUT,
            &format!("/v1/sms/schedules/{}/recipients", Uuid::nil()),
        )
        .header("content-type", "text/csv")
        .body("+27821234567");
    assert_eq!(refused(unknown).await.code(), "not_found");
}

#[tokio::test]
async fn uploads_take_no_places_from_others_and_few_for_each_user() {
    let house = house_with(|config| {
        config.max_concurrent_requests = 1;
        config.max_concurrent_uploads = 3;
    })
    .await;
    let hold = async |token: &str, count: usize| {
        let (pieces, request) = upload(&house, house.user);
        let mut request = request.build().unwrap();
        let token = format!("Bearer {token}");
        request
            .headers_mut()
            .insert("authorization", token.parse().unwrap());
        let http = house.http.clone();
        pieces.send(Ok(Bytes::from_static(b"+27"))).await.unwrap();
        let held = tokio::task::spawn(async move { http.execute(request).await });
        eventually(SOON, || async {
            house.seen.count("upload_sms_recipients") == count
        })
        .await;
        (pieces, held)
    };
    let token_of = |user: u128| {
        house
            .issuer
            .sign(&house.platform.claims(Uuid::from_u128(user)))
    };
    let (one, two, three) = (token_of(1), token_of(2), token_of(3));
    let first = hold(&one, 1).await;
    let _second = hold(&one, 2).await;
    let put = |token: &str| {
        let path = format!("/v1/sms/schedules/{}/recipients", house.user);
        house
            .request(Method::PUT, &path)
            .bearer_auth(token)
            .header("content-type", "text/csv")
            .body("+27821234567")
    };
    let refusal = refused(put(&one)).await;
    assert_eq!((refusal.status, refusal.code()), (429, "too_many_uploads"));
    assert!(refusal.headers.contains_key("retry-after"));
    let _third = hold(&two, 3).await;
    let refusal = refused(put(&three)).await;
    assert_eq!((refusal.status, refusal.code()), (503, "overloaded"));
    // The one place of other requests is free.
    let me = house.member(Method::GET, "/v1/me").send().await.unwrap();
    assert_eq!(me.status(), 200);
    // A place comes back with the end of its upload.
    drop(first.0);
    assert_eq!(first.1.await.unwrap().unwrap().status(), 200);
    assert_eq!(put(&three).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_file_that_only_drips_is_given_up() {
    let house = house_with(|config| {
        config.upload_grace_ms = 300;
        config.upload_min_bytes_per_second = 1_000;
    })
    .await;
    let (pieces, request) = upload(&house, house.user);
    let drip = async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if pieces.send(Ok(Bytes::from_static(b"1"))).await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    let refusal = tokio::select! {
        refusal = refused(request) => refusal,
        never = drip => never,
    };
    assert_eq!((refusal.status, refusal.code()), (408, "request_timeout"));
    assert!(!house.seen.upload.lock().unwrap().complete);
}
