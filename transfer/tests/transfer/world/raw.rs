//! Connections without a byte path on them, over QUIC or over HTTP/2 on TCP: for whoever sends what no node would.

use std::error::Error;
use std::future::{pending, poll_fn};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub(crate) type Broken = Box<dyn Error + Send + Sync>;
pub(crate) type Way<T> = Result<T, Broken>;

/// Bytes on their way at most, so that whoever reads slowly holds up nobody else.
const WINDOW_BYTES: u32 = 1 << 26;

/// A connection on which requests can be sent.
pub(crate) enum Asking {
    Quic(quinn::Connection),
    Tcp { sender: h2::client::SendRequest<Bytes>, _carrying: JoinSet<()> },
}

impl Asking {
    pub(super) async fn tcp(stream: TcpStream) -> Way<Self> {
        let mut builder = h2::client::Builder::new();
        let builder = builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, carrier) = builder.handshake(stream).await?;
        let mut carrying = JoinSet::new();
        // However it ends, whoever asks learns of it.
        carrying.spawn(async move { drop(carrier.await) });
        Ok(Self::Tcp { sender, _carrying: carrying })
    }

    /// A new stream, on which nothing was said yet.
    pub(crate) async fn open(&self) -> Way<(Sending, Receiving)> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.open_bi().await?;
                Ok((Sending::Quic(send), Receiving::Quic(receive)))
            }
            Self::Tcp { sender, .. } => {
                let request = Request::builder().method(Method::POST).uri("https://peerglass/").body(())?;
                let (answer, send) = sender.clone().ready().await?.send_request(request, false)?;
                Ok((Sending::Tcp(send), Receiving::Coming(answer)))
            }
        }
    }

    /// Send `bytes` as a request. Answers with what comes back, `most` bytes at most.
    pub(crate) async fn ask(&self, bytes: &[u8], most: usize) -> Way<Vec<u8>> {
        let (mut send, mut receive) = self.open().await?;
        // The other side may have given up before the end.
        drop(send.write_all(bytes).await);
        drop(send.finish());
        receive.read_to_end(most).await
    }
}

/// A connection on which requests come in.
pub(crate) enum Asked {
    Quic(quinn::Connection),
    Tcp(Box<h2::server::Connection<TcpStream, Bytes>>, Arc<Notify>),
}

impl Asked {
    pub(super) async fn tcp(stream: TcpStream) -> Way<Self> {
        Ok(Self::Tcp(Box::new(h2::server::handshake(stream).await?), Arc::default()))
    }

    /// The next stream. `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(Sending, Receiving)> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.accept_bi().await.ok()?;
                Some((Sending::Quic(send), Receiving::Quic(receive)))
            }
            Self::Tcp(connection, close) => loop {
                let accepted = tokio::select! {
                    biased;
                    () = close.notified() => return None,
                    accepted = connection.accept() => accepted,
                };
                let (request, mut respond) = accepted?.ok()?;
                // Fails only if the other side has taken the request back.
                if let Ok(send) = respond.send_response(Response::new(()), false) {
                    return Some((Sending::Tcp(send), Receiving::Tcp(request.into_body())));
                }
            },
        }
    }

    /// What closes it.
    pub(crate) fn closer(&self) -> Closer {
        match self {
            Self::Quic(connection) => Closer::Quic(connection.clone()),
            Self::Tcp(_, close) => Closer::Tcp(Arc::clone(close)),
        }
    }
}

/// Closes a connection at once, whatever is under way on it.
#[derive(Clone)]
pub(crate) enum Closer {
    Quic(quinn::Connection),
    Tcp(Arc<Notify>),
}

impl Closer {
    pub(crate) fn close(&self) {
        match self {
            Self::Quic(connection) => connection.close(1_u32.into(), b""),
            Self::Tcp(close) => close.notify_one(),
        }
    }
}

/// Where bytes are sent. Dropped before it is finished, it ends as broken.
pub(crate) enum Sending {
    Quic(quinn::SendStream),
    Tcp(h2::SendStream<Bytes>),
}

impl Sending {
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Way<()> {
        let stream = match self {
            Self::Quic(stream) => return Ok(stream.write_all(bytes).await?),
            Self::Tcp(stream) => stream,
        };
        let mut rest = Bytes::copy_from_slice(bytes);
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let room = poll_fn(|context| stream.poll_capacity(context)).await.ok_or("it has ended")??;
            stream.send_data(rest.split_to(room.min(rest.len())), false)?;
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Way<()> {
        match self {
            Self::Quic(stream) => Ok(stream.finish()?),
            Self::Tcp(stream) => Ok(stream.send_data(Bytes::new(), true)?),
        }
    }
}

/// Where bytes come from.
pub(crate) enum Receiving {
    Quic(quinn::RecvStream),
    Tcp(h2::RecvStream),
    /// The other side has not begun to answer.
    Coming(h2::client::ResponseFuture),
}

impl Receiving {
    /// Some bytes; `None` at the end.
    pub(crate) async fn read(&mut self) -> Way<Option<Bytes>> {
        if let Self::Coming(answer) = self {
            *self = Self::Tcp(answer.await?.into_body());
        }
        match self {
            Self::Quic(stream) => Ok(stream.read_chunk(1 << 16, true).await?.map(|chunk| chunk.bytes)),
            Self::Tcp(stream) => {
                let Some(bytes) = stream.data().await.transpose()? else { return Ok(None) };
                stream.flow_control().release_capacity(bytes.len())?;
                Ok(Some(bytes))
            }
            Self::Coming(_) => pending().await,
        }
    }

    pub(crate) async fn read_to_end(&mut self, most: usize) -> Way<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read().await? {
            all.extend_from_slice(&bytes);
            if all.len() > most {
                return Err("it is too long".into());
            }
        }
        Ok(all)
    }
}
