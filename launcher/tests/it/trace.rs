//! One transfer, one trace: from the HTTP request to what the payee is told.

use std::collections::HashSet;

use launcher::client::{Money, Session};
use platform::grpc::client::{as_user, channel};
use platform::telemetry;
use proto::notify::v1::notify_client::NotifyClient;
use proto::notify::v1::subscribe_response::Frame;
use proto::notify::v1::{StreamEvent, SubscribeRequest};
use tokio::time::timeout;
use tokio_stream::StreamExt;

use crate::common::people::{EVENT_PATIENCE, arrive, arrive_with, key};
use crate::common::{PATIENCE, eventually};
use crate::support::product::Product;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_is_one_trace_from_the_request_to_the_notification() {
    let spans = telemetry::init_with_exporter("coffer");
    let product = Product::start().await;
    let (api, mut mailbox) = (product.api(), product.mailbox());
    let asha = arrive_with(&api, &mut mailbox, "Asha", 10_000).await;
    let brian = arrive(&api, &mut mailbox, "Brian").await;
    let trace = format!("{:032x}", rand::random::<u128>());
    let body = serde_json::json!({
        "to": { "handle": brian.user().handle }, "amount": Money::inr(700),
    });
    let request = asha
        .keyed("/v1/transfers", &key(), &body)
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    api.send(request).await.expect("the transfer is posted");

    for event in first_events(&product, &brian, 3).await {
        let told = event.traceparent.split('-').nth(1);
        assert_eq!(told, Some(trace.as_str()), "{} is told in it", event.event);
    }

    let expected = [
        "POST /v1/transfers",
        "wallet-service.Transfer",
        "notify-service wallet.v1.TransferPosted",
    ];
    let names = eventually("every part has a span in the trace", PATIENCE, || async {
        let all = spans.get_finished_spans().expect("spans are kept");
        let ours: Vec<_> = all
            .into_iter()
            .filter(|span| span.span_context.trace_id().to_string() == trace)
            .collect();
        let ids: HashSet<String> = ours
            .iter()
            .map(|span| span.span_context.span_id().to_string())
            .collect();
        // A tree: only the request itself hangs on what the client sent.
        let roots = ours
            .iter()
            .filter(|span| !ids.contains(&span.parent_span_id.to_string()));
        let names: Vec<String> = ours.iter().map(|span| span.name.to_string()).collect();
        let complete = expected
            .iter()
            .all(|part| names.iter().any(|name| name.contains(part)));
        (complete && roots.count() == 1).then_some(names)
    })
    .await;
    println!("{names:?}");
    product.stop().await;
}

/// The first events of a user's stream, from the service itself: the public stream leaves their trace out.
async fn first_events(product: &Product, user: &Session, count: usize) -> Vec<StreamEvent> {
    let mut notify = NotifyClient::new(channel(product.notify()));
    let request = SubscribeRequest {
        after: Some(0),
        device_id: "trace".to_owned(),
    };
    let request = as_user(request, &user.tokens.access_token);
    let mut stream = notify
        .subscribe(request)
        .await
        .expect("the stream opens")
        .into_inner();
    let mut events = Vec::new();
    while events.len() < count {
        let next = timeout(EVENT_PATIENCE, stream.next())
            .await
            .expect("an event comes in time");
        let frame = next
            .expect("the stream goes on")
            .expect("the stream is sound")
            .frame;
        if let Some(Frame::Event(event)) = frame {
            events.push(event);
        }
    }
    events
}
