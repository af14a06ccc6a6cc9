//! TLS over TCP between two nodes, for image bytes.
//!
//! # What it promises
//!
//! * A peer that died without a word is noticed within seconds, as over QUIC: whatever it was sent has to be
//!   acknowledged, and while nothing is sent the kernel asks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerglass_catalog::PeerKey;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::certificate::owner;

/// A connection of which many records are read at once.
pub(super) type Buffered = BufReader<TcpStream>;

/// Bytes read from the kernel at once: rustls itself asks for 4 KiB.
const READ_BYTES: usize = 64 << 10;
/// How long what was sent may stay unacknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(4);
/// When the kernel begins to ask whether the other side is there, and how often it does.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How many questions may go without an answer.
const KEEP_ALIVE_TRIES: u32 = 3;
/// Bytes that wait in the kernel beyond those on their way: what is sent next should be decided late.
const UNSENT_BYTES_MAX: u32 = 64 << 10;

/// Call who listens at `address`.
pub(super) async fn dial(address: SocketAddr, tls: ClientConfig) -> io::Result<TlsStream<Buffered>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("peerglass").map_err(io::Error::other)?;
    let tls = TlsConnector::from(Arc::new(tls)).connect(name, buffered(stream)?).await?;
    Ok(TlsStream::Client(tls))
}

/// Shake hands with a caller. Answers with who it proved to be.
pub(super) async fn greet(
    stream: TcpStream,
    tls: ServerConfig,
) -> io::Result<(TlsStream<Buffered>, PeerKey)> {
    let tls = TlsAcceptor::from(Arc::new(tls)).accept(buffered(stream)?).await?;
    let connection = tls.get_ref().1;
    // A caller that names no purpose is let through by TLS.
    if connection.alpn_protocol().is_none() {
        return Err(io::Error::other("the caller names no known purpose"));
    }
    let key = connection.peer_certificates().and_then(|chain| owner(chain.first()?));
    let key = key.ok_or_else(|| io::Error::other("the caller has no key"))?;
    Ok((TlsStream::Server(tls), key))
}

fn buffered(stream: TcpStream) -> io::Result<Buffered> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    socket.set_tcp_keepalive(&keep_alive.with_retries(KEEP_ALIVE_TRIES))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(BufReader::with_capacity(READ_BYTES, stream))
}

#[cfg(test)]
mod tests;
