//! A connection between two nodes' byte paths: QUIC, or HTTP/2 over TLS over TCP.
//!
//! A request and its answer are one stream of it. Over QUIC both sides ask and answer on one connection;
//! over TCP, whoever opened it asks (RFC 9113), and a node that wants to ask back opens another.
//!
//! TCP is what works where UDP is blocked, and what costs less where it is not: the kernel sends and
//! acknowledges in units of up to 64 KiB, QUIC a datagram at a time.
//!
//! # What it promises
//!
//! * A stream that was not finished on purpose ends as broken at the other side, whichever carries it.
//! * What is received and not read yet is bounded: [`STREAM_WINDOW_BYTES`] a stream, and
//!   [`CONNECTION_WINDOW_BYTES`] in all.
//!
//! # What it leaves to others
//!
//! Who is at the other end, and how long to wait (`node`, `exchange`).

mod streams;
mod tcp;

use streams::broken;
pub(crate) use streams::{Broken, Receiving, Sending};
pub use tcp::{Io, Stream, Tcp};

/// Requests of one connection answered at once: all that an honest node has in flight.
pub(crate) const REQUESTS_MAX: usize = 64;
/// Bytes that may arrive on one stream before they are read.
const STREAM_WINDOW_BYTES: u32 = 1_310_720;
/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// What carries a connection between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// HTTP/2 over TLS over TCP.
    Tcp,
    /// QUIC, over UDP.
    Quic,
}

impl Transport {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Quic];
}

/// A connection on which this node may ask.
#[derive(Clone, Debug)]
pub enum Connection {
    /// The other side may ask on it as well, so it must be given to
    /// [`serve_peer`](crate::Transfer::serve_peer), too.
    Quic(quinn::Connection),
    /// Only this side asks.
    Tcp(Tcp),
}

impl Connection {
    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Quic(connection) => connection.close_reason().is_some(),
            Self::Tcp(connection) => connection.is_closed(),
        }
    }

    /// What carries it.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::Tcp(_) => Transport::Tcp,
        }
    }

    /// Open a stream, send all of a request on it, and have what comes back.
    pub(crate) async fn ask(&self, request: Vec<u8>) -> Result<Receiving, Broken> {
        match self {
            Self::Quic(connection) => {
                let (mut send, receive) = connection.open_bi().await.map_err(broken)?;
                send.write_all(&request).await.map_err(broken)?;
                send.finish().map_err(broken)?;
                Ok(Receiving::Quic(receive))
            }
            Self::Tcp(connection) => connection.ask(request.into()).await,
        }
    }
}

impl From<quinn::Connection> for Connection {
    fn from(connection: quinn::Connection) -> Self {
        Self::Quic(connection)
    }
}

/// A connection on which the other side asks.
pub enum Calls {
    /// It was opened by either side.
    Quic(quinn::Connection),
    /// It was opened by the other side.
    Tcp(Box<h2::server::Connection<Io, bytes::Bytes>>),
}

impl Calls {
    /// The next request. While there is room for none, nothing but what is under way goes on.
    /// `None` once the connection has ended.
    pub(crate) async fn next(&mut self, has_room: bool) -> Option<(Sending, Receiving)> {
        match self {
            Self::Quic(_) if !has_room => std::future::pending().await,
            Self::Quic(connection) => {
                let (send, receive) = connection.accept_bi().await.ok()?;
                Some((Sending::quic(send), Receiving::Quic(receive)))
            }
            Self::Tcp(connection) => tcp::next(connection, has_room).await,
        }
    }

    /// How to ask back over the same connection, if that can be.
    pub(crate) fn back(&self) -> Option<Connection> {
        match self {
            Self::Quic(connection) => Some(Connection::Quic(connection.clone())),
            Self::Tcp(_) => None,
        }
    }
}

impl From<quinn::Connection> for Calls {
    fn from(connection: quinn::Connection) -> Self {
        Self::Quic(connection)
    }
}
