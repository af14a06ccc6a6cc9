//! The connections: accept, limit, serve, drain.
//!
//! # What it promises
//!
//! * No more connections are open than allowed, in all and from one address.
//! * A client that connects and sends no complete request head is cut off in bounded time.
//! * After `stop`, requests in flight may finish until the drain time is over; then they are cut, and
//!   uploads among them release their images before this returns.

mod places;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::Request;
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

use crate::api::Api;
use crate::front::Front;
use crate::settings::ApiSettings;
use places::Places;

/// Read buffer of an HTTP/1.1 connection; also the most a request head may take.
const READ_BUFFER_BYTES: usize = 400 * 1024;
/// Streams a client may open and reset before they are accepted; more is an attack.
const HTTP2_RESETS_MAX: usize = 200;

/// Answer requests that come in by `listener` until `stop`, then drain.
///
/// The listener sets socket options such as `TCP_NODELAY` itself, because only it knows its sockets.
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
                        connection(&builder, io, front, stop).await;
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
        .header_read_timeout(settings.header_read_timeout)
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
async fn connection<I>(builder: &Builder<TokioExecutor>, io: I, front: Front, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let head_timeout = front.settings().header_read_timeout;
    let began = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&began);
    let service = service_fn(move |request: Request<Incoming>| {
        seen.store(true, Ordering::Relaxed);
        front.clone().call(request.map(Body::new))
    });
    let mut served = pin!(builder.serve_connection(TokioIo::new(io), service));
    // Which protocol a client speaks is not known before its first bytes, and waiting for those has
    // no limit of its own.
    tokio::select! {
        biased;
        ended = served.as_mut() => return log_end(ended),
        () = stop.cancelled() => served.as_mut().graceful_shutdown(),
        () = tokio::time::sleep(head_timeout) => {
            if !began.load(Ordering::Relaxed) {
                return;
            }
        }
    }
    tokio::select! {
        biased;
        ended = served.as_mut() => return log_end(ended),
        () = stop.cancelled() => served.as_mut().graceful_shutdown(),
    }
    log_end(served.await);
}

/// How a connection ends is the client's affair, and often a rude one.
fn log_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
