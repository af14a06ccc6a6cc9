//! Closing without losing the last answer.
//!
//! An upload can be refused before its bytes were read. To close a socket with bytes unread makes the
//! kernel reset the connection, and a client that is still sending then fails before it looks for the
//! answer. So after such an answer nothing more is sent, and what comes is read and thrown away until
//! the client closes or a limit is reached.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a client may go on sending: a few round trips of the slowest link, with losses. Longer
/// would let clients that ignore answers hold connections and delay the node's stop.
const LINGER_MAX: Duration = Duration::from_secs(3);
/// How much it may go on sending: more than socket buffers and a fast, long link hold at once, so who
/// reads answers while sending never meets this limit.
const LINGER_BYTES_MAX: usize = 16 << 20;
/// Large enough to need few calls, small enough for thousands of connections.
const BUFFER_BYTES: usize = 16 * 1024;

/// A connection that returns to its owner when its user drops it.
pub(super) struct Lent<I> {
    /// Empty only while it is dropped.
    io: Option<I>,
    owner: Option<oneshot::Sender<I>>,
}

impl<I> Lent<I> {
    /// Lend `io`; the receiver gets it back.
    pub(super) fn new(io: I) -> (Self, oneshot::Receiver<I>) {
        let (owner, returned) = oneshot::channel();
        (Self { io: Some(io), owner: Some(owner) }, returned)
    }
}

/// Send no more, and discard what still comes until the client closes or has used up its limits.
pub(super) async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    let discarded = async {
        io.shutdown().await?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut bytes = 0;
        while bytes < LINGER_BYTES_MAX {
            match io.read(&mut buffer).await? {
                0 => return Ok(true),
                more => bytes += more,
            }
        }
        io::Result::Ok(false)
    };
    // An error means that the client is gone, which is as good as its end.
    if !matches!(timeout(LINGER_MAX, discarded).await, Ok(Ok(true) | Err(_))) {
        tracing::debug!("a client that went on sending after its answer is cut off");
    }
}

impl<I> Drop for Lent<I> {
    fn drop(&mut self) {
        if let (Some(io), Some(owner)) = (self.io.take(), self.owner.take()) {
            // Without an owner it is closed here.
            drop(owner.send(io));
        }
    }
}

impl<I: Unpin> Lent<I> {
    fn inner(&mut self) -> Result<Pin<&mut I>, io::Error> {
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Lent<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner()?.poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Lent<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_client_ends_it_at_once() {
        let (mut client, server) = duplex(64);
        let begun = Instant::now();
        let client = async move {
            client.write_all(&[7; 100_000]).await.unwrap();
            // The client sees the end before it sends its own.
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        };
        tokio::join!(linger(server), client);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_cut_in_time() {
        let (_client, server) = duplex(64);
        let begun = Instant::now();
        linger(server).await;
        assert_eq!(begun.elapsed().as_secs(), LINGER_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_client_is_cut_by_bytes() {
        let (mut client, server) = duplex(BUFFER_BYTES);
        let sending = async move {
            let mut sent = 0;
            while client.write_all(&[7; BUFFER_BYTES]).await.is_ok() {
                sent += BUFFER_BYTES;
            }
            sent
        };
        let ((), sent) = tokio::join!(linger(server), sending);
        assert!((LINGER_BYTES_MAX..=LINGER_BYTES_MAX + 2 * BUFFER_BYTES).contains(&sent), "{sent}");
    }

    #[tokio::test]
    async fn what_was_lent_comes_back() {
        let (lent, returned) = Lent::new(7);
        drop(lent);
        assert_eq!(returned.await, Ok(7));
    }
}
