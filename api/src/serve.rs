//! The connections: accept, limit, serve, drain.
//!
//! # What it promises
//!
//! * No more connections are open than allowed, in all and from one address.
//! * A client that connects and sends no complete request head is cut off in bounded time, and a
//!   connection without a request is kept alive no longer than allowed, whichever protocol it speaks.
//! * A client that takes no byte of its answers for too long is cut off, and what it was to get is freed. On a
//!   connection of several requests that goes for all of them.
//! * An answer given before the request's body was read reaches a client that is still sending.
//! * After `stop`, requests in flight may finish until the drain time is over; then they are cut, and
//!   uploads among them release their images before this returns.
//! * A request that crosses with the stop on a connection kept alive is answered: such connections stay open
//!   for a moment more, each further answer on them says `Connection: close`, and only then those that are
//!   still idle are closed.

mod answer;
mod linger;
mod meter;
mod places;
mod progress;
mod tally;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, Version, header};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::access::Remote;
use crate::api::Api;
use crate::front::Front;
use crate::settings::ApiSettings;
use answer::Answer;
use linger::{Lent, linger};
use meter::Metered;
use places::Places;
use progress::{Over, Patience, Progress};
use tally::Tally;

/// Read buffer of an HTTP/1.1 connection; also the most a request head may take.
const READ_BUFFER_BYTES: usize = 400 * 1024;
/// Streams a client may open and reset before they are accepted; more is an attack.
const HTTP2_RESETS_MAX: usize = 200;

/// How long idle connections stay open after `stop`: longer than a request is under way, and than a client's
/// pool takes to hear that this connection is to be closed. Half of the drain time if that is shorter.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Answer requests that come in by `listener` until `stop`, then drain.
///
/// The listener sets socket options itself, because only it knows its sockets. `TCP_NODELAY` it should:
/// an answer's head and body are written apart, and Nagle's algorithm would hold the body back until
/// the client has acknowledged the head, 40 ms later on many systems.
pub async fn serve<L>(mut listener: L, api: Api, stop: CancellationToken)
where
    L: Listener<Addr = SocketAddr>,
{
    let builder = Arc::new(builder(&api.settings));
    let places = Places::new(api.settings.connections_max, api.settings.connections_per_address_max);
    let front = api.service();
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let free = places.free().await;
            (listener.accept().await, free)
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            ((io, address), free) = accepted => {
                // Dropping the connection closes it: this address has enough.
                if let Some(place) = places.take(free, address.ip()) {
                    let (builder, front, stop) = (Arc::clone(&builder), front.clone(), stop.clone());
                    connections.spawn(async move {
                        connection(&builder, io, address, front, stop).await;
                        drop(place);
                    });
                }
            }
        }
    }
    drop(listener);
    api.start_draining();
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(api.settings.drain_timeout, drained).await.is_err() {
        tracing::warn!("requests still in flight after the drain time are cut");
    }
    connections.shutdown().await;
    api.finish_uploads().await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task ended abnormally");
    }
}

fn builder(settings: &ApiSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The first head has a shorter limit, in `requests`. A later one needs none of its own: whoever
        // sends it slowly holds the connection no longer than whoever sends nothing.
        .header_read_timeout(settings.keep_alive_timeout)
        .max_headers(settings.headers_max)
        .max_buf_size(READ_BUFFER_BYTES.max(settings.header_bytes_max));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.http2_streams_max)
        .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .keep_alive_interval(settings.body_idle_timeout / 2)
        .keep_alive_timeout(settings.header_read_timeout);
    builder
}

/// Serve one connection to its end.
async fn connection<I>(
    builder: &Builder<TokioExecutor>,
    io: I,
    remote: SocketAddr,
    front: Front,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tally = Tally::default();
    let (io, mut returned) = Lent::new(io);
    let ended = requests(builder, io, remote, front, stop, &tally).await;
    // Only then can bytes be under way that nobody read: a body was refused, or what came was no HTTP.
    let may_be_sending = tally.left_unread() || ended.is_err();
    if let Err(error) = ended {
        // How a connection ends is the client's affair, and often a rude one.
        tracing::debug!(%remote, %error, "connection ended");
    }
    if may_be_sending && let Ok(io) = returned.try_recv() {
        linger(io).await;
    }
}

/// Answer the requests of one connection, until one side has enough.
async fn requests<I>(
    builder: &Builder<TokioExecutor>,
    io: Lent<I>,
    remote: SocketAddr,
    front: Front,
    stop: CancellationToken,
    tally: &Tally,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let head_timeout = front.settings().header_read_timeout;
    let last_requests = LAST_REQUESTS.min(front.settings().drain_timeout / 2);
    let mut patience =
        Patience { stuck: front.settings().write_idle_timeout, idle: front.settings().keep_alive_timeout };
    let progress = Progress::new();
    let io = TokioIo::new(Metered::new(io, progress.clone()));
    let service = service(front, remote, stop.clone(), tally.clone(), progress.clone());
    let mut served = pin!(builder.serve_connection(io, service));
    let mut stopped = pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(last_requests).await;
    });
    // Which protocol a client speaks is not known before its first bytes, so this limit is kept here.
    let mut head_due = pin!(tokio::time::sleep(head_timeout));
    let (mut head_came, mut closing) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => return ended,
            () = stopped.as_mut(), if !closing => {
                served.as_mut().graceful_shutdown();
                closing = true;
            }
            () = head_due.as_mut(), if !head_came => {
                if !tally.began() {
                    return Ok(());
                }
                head_came = true;
            }
            over = progress.over(patience) => match over {
                Over::Stuck => {
                    tracing::info!(%remote, "a client that takes nothing of its answer is cut off");
                    return Ok(());
                }
                Over::Idle if closing => return Ok(()),
                // A request may cross with the end, so the client is told first.
                Over::Idle => {
                    served.as_mut().graceful_shutdown();
                    closing = true;
                    patience.idle = head_timeout;
                    progress.rest();
                }
            }
        }
    }
}

/// What answers each request of one connection.
fn service(
    front: Front,
    remote: SocketAddr,
    stop: CancellationToken,
    tally: Tally,
    progress: Progress,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> {
    service_fn(move |request: Request<Incoming>| {
        let (version, stop, progress) = (request.version(), stop.clone(), progress.clone());
        let under_way = progress.begin(version == Version::HTTP_2);
        let mut request = tally.take(request);
        request.extensions_mut().insert(Remote(remote));
        let answer = front.clone().call(request);
        async move {
            let mut answer = answer.await?;
            if stop.is_cancelled() && version <= Version::HTTP_11 {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| Body::new(Answer::new(body, progress, under_way))))
        }
    })
}
