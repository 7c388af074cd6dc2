//! Takes connections.
//!
//! HTTP/1.1 only: the head of a request has a time limit from its first byte on, which the detection of HTTP/2 by
//! preface does not offer, and the floods that HTTP/2 knows do not exist. TLS and HTTP/2 are the business of the proxy
//! in front.

use std::net::IpAddr;
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
use tokio::sync::Semaphore;
use tower::Service;

use crate::config::GatewayConfig;
use crate::edge::client_address::{Network, bucket};
use crate::edge::{Peer, Place};
use crate::linger::Lingering;
use crate::seats::{Seat, Seats};
use crate::write_limit::WriteLimit;

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
    let clients = Clients::new(&config);
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
        let Some((socket, address, of_all)) = accepted else {
            continue;
        };
        let Ok(of_client) = clients.enter(address.ip()) else {
            tracing::debug!(client.address = %address.ip(), "an address holds too many connections");
            continue;
        };
        let place = Place {
            _of_all: of_all,
            _of_client: of_client,
        };
        let connection = Connection {
            peer: Peer {
                address,
                place: Arc::new(place),
            },
            router: router.clone(),
            header_timeout: Duration::from_millis(config.header_timeout_ms),
            write_timeout: Duration::from_millis(config.write_timeout_ms),
            tasks: tasks.clone(),
        };
        tasks.spawn("gateway-connection", connection.run(socket));
    }
}

/// The connections of each address.
struct Clients {
    seats: Seats<String>,
    proxies: Vec<Network>,
}

/// An address holds as many connections as it may.
struct TooMany;

impl Clients {
    fn new(config: &GatewayConfig) -> Self {
        let proxies = config.trusted_proxies.iter();
        Self {
            seats: Seats::new(config.max_connections_per_client),
            proxies: proxies.filter_map(|text| Network::parse(text)).collect(),
        }
    }

    /// A place for one more connection; `None` for proxies, behind whose address many clients stand.
    fn enter(&self, address: IpAddr) -> Result<Option<Seat<String>>, TooMany> {
        if self.proxies.iter().any(|proxy| proxy.contains(address)) {
            return Ok(None);
        }
        self.seats.enter(bucket(address)).map(Some).ok_or(TooMany)
    }
}

struct Connection {
    peer: Peer,
    router: Router,
    header_timeout: Duration,
    write_timeout: Duration,
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
            write_timeout,
            tasks,
        } = self;
        let socket = Lingering::new(socket, peer.clone(), tasks.clone());
        let socket = WriteLimit::new(socket, write_timeout);
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
