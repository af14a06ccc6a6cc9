//! HTTP/2 over one TCP connection: a request of the exchange is the body of a request, its answer the body
//! of the response. Paths, headers and status mean nothing.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

use super::streams::{Broken, Receiving, Sending, broken};
use super::{CONNECTION_WINDOW_BYTES, Calls, Connection, REQUESTS_MAX, STREAM_WINDOW_BYTES};

/// Bytes of one frame: many streams share the connection, and none should hold it for long.
const FRAME_BYTES: u32 = 64 << 10;
/// Bytes of one answer that wait for the kernel to take them.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Bytes of a request that may arrive before they are read: the longest.
const REQUEST_WINDOW_BYTES: u32 = 128 << 10;
/// Headers are not looked at.
const HEADER_BYTES_MAX: u32 = 4 << 10;
/// How long what still arrives of an answer that was taken back is expected: a slow link has much on its way.
const RESETS_REMEMBERED: Duration = Duration::from_secs(30);
/// What every request is for.
const URI: &str = "https://peerglass/";

/// What HTTP/2 runs over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Any such stream.
pub type Io = Box<dyn Stream>;

/// The asking side of a TCP connection.
#[derive(Clone)]
pub struct Tcp {
    sender: h2::client::SendRequest<Bytes>,
    closed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tcp").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Tcp {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) async fn ask(&self, request: Bytes) -> Result<Receiving, Broken> {
        let asked = async {
            let mut sender = self.sender.clone().ready().await?;
            let (response, mut send) = sender.send_request(head(), false)?;
            send.send_data(request, true)?;
            response.await
        };
        let answered = asked.await.map_err(|error: h2::Error| {
            // A stream may fail alone. Whatever else fails, the connection is of no more use, and whoever asks again
            // must not be given it again.
            if !error.is_reset() {
                self.closed.store(true, Ordering::Relaxed);
            }
            broken(error)
        });
        Ok(Receiving::tcp(answered?.into_body()))
    }
}

/// Of every request.
fn head() -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    *head.uri_mut() = Uri::from_static(URI);
    head
}

impl Connection {
    /// Ask over `io`, whose other side makes it [`Calls::over_tcp`]. The future carries the connection and must be run; it
    /// ends with it, and after the last clone of the connection.
    pub async fn over_tcp(io: impl Stream) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let handshake = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .enable_push(false)
            .initial_max_send_streams(REQUESTS_MAX)
            .max_concurrent_reset_streams(REQUESTS_MAX * 2)
            .reset_stream_duration(RESETS_REMEMBERED)
            .max_local_error_reset_streams(None)
            .handshake::<Io, Bytes>(Box::new(io));
        let (sender, carrier) = handshake.await.map_err(io::Error::other)?;
        let closed = Arc::new(AtomicBool::new(false));
        let ending = Ending(Arc::clone(&closed));
        let carry = async move {
            let _ending = ending;
            if let Err(error) = carrier.await {
                tracing::debug!(%error, "a connection for image bytes broke");
            }
        };
        Ok((Self::Tcp(Tcp { sender, closed }), carry))
    }
}

/// Says that the connection has ended, however its carrier ends.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Calls {
    /// Be asked over `io` by the side that opened it.
    pub async fn over_tcp(io: impl Stream) -> io::Result<Self> {
        let handshake = h2::server::Builder::new()
            .initial_window_size(REQUEST_WINDOW_BYTES)
            .initial_connection_window_size(REQUEST_WINDOW_BYTES * 8)
            .max_frame_size(FRAME_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_streams(REQUESTS_MAX as u32)
            .max_pending_accept_reset_streams(REQUESTS_MAX * 2)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .handshake(Box::new(io) as Io);
        Ok(Self::Tcp(Box::new(handshake.await.map_err(io::Error::other)?)))
    }
}

/// The next request, if there is room for one. Bytes go in and out only while this is polled.
pub(super) async fn next(
    connection: &mut h2::server::Connection<Io, Bytes>,
    has_room: bool,
) -> Option<(Sending, Receiving)> {
    if !has_room {
        // Ends with the connection, which is all that is to be known.
        drop(poll_fn(|context| connection.poll_closed(context)).await);
        return None;
    }
    loop {
        let (request, mut respond) = connection.accept().await?.ok()?;
        // Fails only if the other side has taken the request back.
        if let Ok(send) = respond.send_response(Response::new(()), false) {
            return Some((Sending::tcp(send), Receiving::tcp(request.into_body())));
        }
    }
}
