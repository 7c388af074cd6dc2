//! One transfer, one trace, across processes: spans collected over OTLP as an operator would.

use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use launcher::client::Money;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::cluster::Cluster;
use crate::common::people::{arrive, arrive_with, key};
use crate::common::{PATIENCE, eventually};

/// Every span that a process has sent.
static SPANS: Mutex<Vec<Collected>> = Mutex::new(Vec::new());

#[derive(Debug, Clone)]
struct Collected {
    trace: String,
    id: String,
    parent: String,
    name: String,
    process: String,
}

/// A small collector of traces.
struct Collector;

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut collected = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let attributes = resource
                .resource
                .map(|resource| resource.attributes)
                .unwrap_or_default();
            let process = attributes
                .into_iter()
                .find(|one| one.key == "service.name")
                .map(|one| format!("{:?}", one.value))
                .unwrap_or_default();
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            collected.extend(spans.map(|span| Collected {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                process: process.clone(),
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Address of the collector of this program; it outlives the runtime of the test that asked first.
pub(crate) async fn collector() -> String {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS
        .get_or_init(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.set_nonblocking(true).expect("a socket");
            let address = listener.local_addr().expect("an address");
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let served = runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).expect("a socket");
                    tonic::transport::Server::builder()
                        .add_service(TraceServiceServer::new(Collector))
                        .serve_with_incoming(TcpListenerStream::new(listener))
                        .await
                });
                served.expect("the collector serves");
            });
            format!("http://{address}")
        })
        .clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_is_one_trace_through_every_process_that_it_touches() {
    let cluster = Cluster::shared().await;
    let (api, mut mailbox) = (cluster.api(), cluster.mailbox());
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

    let expected = [
        ("gateway", "POST /v1/transfers"),
        ("wallet-service", "wallet-service.Transfer"),
        ("notify-service", "notify-service wallet.v1.TransferPosted"),
    ];
    let spans = eventually("every part has a span in the trace", PATIENCE, || async {
        let collected = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
        let ours: Vec<Collected> = collected
            .iter()
            .filter(|span| span.trace == trace)
            .cloned()
            .collect();
        let ids: HashSet<&str> = ours.iter().map(|span| span.id.as_str()).collect();
        // A tree: only the request itself hangs on what the client sent.
        let roots = ours
            .iter()
            .filter(|span| !ids.contains(span.parent.as_str()))
            .count();
        let complete = expected.iter().all(|(process, part)| {
            ours.iter()
                .any(|span| span.process.contains(process) && span.name.contains(part))
        });
        (complete && roots == 1).then_some(ours)
    })
    .await;
    for span in &spans {
        println!(
            "{} {} <- {} {}",
            span.process, span.id, span.parent, span.name
        );
    }
}
