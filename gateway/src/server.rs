//! Takes connections.
//!
//! HTTP/1.1 only: the head of a request has a time limit from its first byte on, which the detection of HTTP/2 by
//! preface does not offer, and the floods that HTTP/2 knows do not exist. TLS and HTTP/2 are the business of the proxy
//! in front.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use platform::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

use crate::config::GatewayConfig;
use crate::edge::Peer;
use crate::linger::Lingering;

/// Header fields of one request.
const MAX_HEADERS: usize = 100;
/// Bytes of the head of one request.
const MAX_HEAD: usize = 64 * 1024;
/// Pause after the system refused to take a connection, e.g. for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the tasks are told to end. Then no new connection is taken, and those that are open end with the
/// request that they are in.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    config: GatewayConfig,
    tasks: Tasks,
) {
    let places = Arc::new(Semaphore::new(
        config.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let stop = tasks.token();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((socket, address)) => Some(Some((socket, address, place))),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    Some(None)
                }
            }
        };
        let Some(Some(accepted)) = stop.run_until_cancelled(next).await else {
            return;
        };
        let Some((socket, address, place)) = accepted else {
            continue;
        };
        let connection = Connection {
            peer: peer(address, place),
            router: router.clone(),
            header_timeout: Duration::from_millis(config.header_timeout_ms),
            tasks: tasks.clone(),
        };
        tasks.spawn("gateway-connection", connection.run(socket));
    }
}

fn peer(address: std::net::SocketAddr, place: OwnedSemaphorePermit) -> Peer {
    Peer {
        address,
        place: Arc::new(place),
    }
}

struct Connection {
    peer: Peer,
    router: Router,
    header_timeout: Duration,
    tasks: Tasks,
}

impl Connection {
    async fn run(self, socket: TcpStream) {
        // Answers are written whole; waiting for more to send only delays them.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let Self {
            peer,
            router,
            header_timeout,
            tasks,
        } = self;
        let socket = Lingering::new(socket, peer.clone(), tasks.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let mut router = router.clone();
            async move { Service::call(&mut router, request.map(Body::new)).await }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        tokio::pin!(connection);
        let stop = tasks.token();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }
}
