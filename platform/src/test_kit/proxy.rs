//! A wire that tests can cut: TCP between a client and a server.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::Tasks;

/// State of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Bytes pass.
    Open,
    /// Connections stay, and no byte passes in either direction.
    Silent,
    /// Connections end, and new ones end at once.
    Cut,
}

/// Passes bytes between its clients and one server, for as long as it lives.
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<watch::Sender<Wire>>,
    tasks: Tasks,
}

impl Proxy {
    /// A proxy on a free port of this machine in front of `server`, a host and a port.
    pub async fn start(server: impl Into<String>) -> Self {
        let (server, tasks) = (server.into(), Tasks::new());
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let wire = Arc::new(watch::Sender::new(Wire::Open));
        let (state, pumps, token) = (wire.clone(), tasks.clone(), tasks.token());
        tasks.spawn("proxy", async move {
            let accepting = async {
                while let Ok((client, _)) = listener.accept().await {
                    if *state.borrow() == Wire::Cut {
                        continue;
                    }
                    let Ok(server) = TcpStream::connect(&server).await else {
                        continue;
                    };
                    pass(client, server, &state, &pumps);
                }
            };
            let _stopped = token.run_until_cancelled(accepting).await;
        });
        Self {
            address,
            wire,
            tasks,
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the state of the wire, also of connections that are open.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Wire::Cut);
        self.tasks.token().cancel();
    }
}

fn pass(client: TcpStream, server: TcpStream, wire: &watch::Sender<Wire>, tasks: &Tasks) {
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    for (from, to) in [(from_client, to_server), (from_server, to_client)] {
        let mut state = wire.subscribe();
        tasks.spawn("proxy connection", async move {
            let mut cut = state.clone();
            tokio::select! {
                () = pump(from, to, &mut state) => {}
                // The sender lives as long as the proxy.
                _ = cut.wait_for(|wire| *wire == Wire::Cut) => {}
            }
        });
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wire: &mut watch::Receiver<Wire>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else {
            return;
        };
        if wire.wait_for(|wire| *wire == Wire::Open).await.is_err()
            || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
}
