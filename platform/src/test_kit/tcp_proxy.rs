//! A TCP proxy that fails as a network does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::Tasks;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Bytes pass.
    Fair,
    /// Connections are closed, new ones at once.
    Cut,
    /// Connections stay and are accepted, and nothing passes.
    BlackHole,
}

/// Stands between a client and a server, on a port of its own.
pub struct TcpProxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicUsize>,
}

impl TcpProxy {
    /// Passes bytes to `upstream`, such as `127.0.0.1:6379`.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(upstream: impl Into<String>, tasks: &Tasks) -> Self {
        let upstream = upstream.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let weather = watch::Sender::new(Weather::Fair);
        let accepted = Arc::new(AtomicUsize::new(0));
        let (seen, count, own) = (weather.subscribe(), accepted.clone(), tasks.clone());
        tasks.spawn("tcp-proxy", async move {
            let token = own.token();
            while let Some(Ok((client, _))) = token.run_until_cancelled(listener.accept()).await {
                count.fetch_add(1, Ordering::SeqCst);
                let (upstream, seen, token) = (upstream.clone(), seen.clone(), own.token());
                own.spawn("tcp-proxy-connection", async move {
                    let _ended = token
                        .run_until_cancelled(carry(client, upstream, seen))
                        .await;
                });
            }
        });
        Self {
            address,
            weather,
            accepted,
        }
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `url` with the proxy's address in the place of host and port; login and path stay.
    pub fn url(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or(("tcp", url));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let login = rest[..end].rfind('@').map_or("", |at| &rest[..=at]);
        format!("{scheme}://{login}{}{}", self.address, &rest[end..])
    }

    /// Connections that were accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Closes all connections, and each new one at once.
    pub fn cut(&self) {
        self.weather.send_replace(Weather::Cut);
    }

    /// Keeps and accepts connections, and lets nothing through.
    pub fn black_hole(&self) {
        self.weather.send_replace(Weather::BlackHole);
    }

    /// Lets bytes pass again, also those that waited.
    pub fn restore(&self) {
        self.weather.send_replace(Weather::Fair);
    }
}

/// Host and port of a URL, as [`TcpProxy::start`] takes them.
///
/// # Panics
/// When the URL names no port.
pub fn authority(url: &str) -> String {
    let uri: http::Uri = url.parse().expect("a URL");
    let host = uri.host().expect("a host");
    format!("{host}:{}", uri.port_u16().expect("a port"))
}

async fn carry(client: TcpStream, upstream: String, mut weather: watch::Receiver<Weather>) {
    let mut changes = weather.clone();
    // Where the proxy is gone, so are its connections.
    let cut = until(&mut changes, Weather::Cut);
    let work = async {
        if !until(&mut weather, Weather::Fair).await {
            return;
        }
        let Ok(server) = TcpStream::connect(upstream).await else {
            return;
        };
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::select! {
            () = pump(client_read, server_write, weather.clone()) => {}
            () = pump(server_read, client_write, weather) => {}
        }
    };
    tokio::select! {
        _ = cut => {}
        () = work => {}
    }
}

/// Waits for a kind of weather; `false` when the proxy is gone.
async fn until(weather: &mut watch::Receiver<Weather>, kind: Weather) -> bool {
    weather.wait_for(|now| *now == kind).await.is_ok()
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if !until(&mut weather, Weather::Fair).await
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_gets_the_address_of_the_proxy_and_keeps_the_rest() {
        let proxy = TcpProxy::start("127.0.0.1:1", &Tasks::new()).await;
        let at = proxy.address();
        for (url, expected) in [
            ("redis://a:b@host:5/3", format!("redis://a:b@{at}/3")),
            ("amqp://host:5/%2f?x=1", format!("amqp://{at}/%2f?x=1")),
            ("redis://host", format!("redis://{at}")),
        ] {
            assert_eq!(proxy.url(url), expected);
        }
        assert_eq!(authority("redis://a:b@host:5/3"), "host:5");
    }
}
