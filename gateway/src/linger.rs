//! Lets a client read the answer that came before it had finished asking.
//!
//! A request that is refused early, for its size or its token, leaves bytes unread. Were the socket closed over them,
//! the system would reset the connection, and the client would lose the answer that is on its way. So what still
//! comes is thrown away for a moment after our end has been closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use platform::Tasks;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::edge::Peer;

/// Longest time for which a connection that has ended is kept.
const LONGEST: Duration = Duration::from_secs(5);
/// Most bytes that are thrown away.
const MOST_BYTES: u64 = 64 << 20;

/// A socket that is closed with patience. The connection keeps its place among the others until then.
pub(crate) struct Lingering {
    socket: Option<TcpStream>,
    peer: Option<Peer>,
    tasks: Tasks,
}

impl Lingering {
    pub(crate) fn new(socket: TcpStream, peer: Peer, tasks: Tasks) -> Self {
        Self {
            socket: Some(socket),
            peer: Some(peer),
            tasks,
        }
    }

    /// The socket; it is there until the drop.
    fn socket(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.socket
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let (Some(socket), peer) = (self.socket.take(), self.peer.take()) else {
            return;
        };
        // At the end of a runtime there is nobody left to wait.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let stop = self.tasks.token();
        self.tasks.spawn("gateway-lingering", async move {
            let wait = tokio::time::timeout(LONGEST, throw_away(socket));
            // Whatever way it ends, the connection is over.
            let _ = stop.run_until_cancelled(wait).await;
            drop(peer);
        });
    }
}

async fn throw_away(mut socket: TcpStream) -> io::Result<()> {
    socket.shutdown().await?;
    let mut rest = socket.take(MOST_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink())
        .await
        .map(drop)
}

impl AsyncRead for Lingering {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().socket()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().socket()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_shutdown(cx)
    }
}
