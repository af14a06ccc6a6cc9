//! Clients of etcd: gRPC over a few HTTP/2 connections that all clients share, as etcd's own client does.
//!
//! The two messages needed are encoded here by hand; generated code would bring a compiler of its own.

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::loop_closed;

/// Bytes that gRPC puts before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Bytes of a key.
const KEY_BYTES: usize = 20;
/// Where an answer's outcome stands; 0 is good.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What a client asks.
#[derive(Clone)]
pub(crate) enum Question {
    /// Put a new key; the first is of this number.
    Put { first: u64, value: Bytes },
    /// Get one of the keys numbered from 0, in turn, and expect as many bytes at least.
    Range { keys: u64, bytes_min: usize },
}

impl Question {
    /// The path and the message of one request.
    fn encode(&self, number: u64) -> (Uri, Bytes, usize) {
        match self {
            Self::Put { first, value } => {
                let message = message(first + number, Some(value));
                (Uri::from_static("http://etcd/etcdserverpb.KV/Put"), message, 0)
            }
            Self::Range { keys, bytes_min } => {
                let message = message(number % keys, None);
                (Uri::from_static("http://etcd/etcdserverpb.KV/Range"), message, *bytes_min)
            }
        }
    }
}

/// `PutRequest { key = 1, value = 2 }` or `RangeRequest { key = 1 }`, behind gRPC's prefix.
fn message(number: u64, value: Option<&Bytes>) -> Bytes {
    let mut message =
        BytesMut::with_capacity(PREFIX_BYTES + KEY_BYTES + 2 + value.map_or(0, |v| v.len() + 6));
    message.put_bytes(0, PREFIX_BYTES);
    put_field(&mut message, 1, format!("images/{number:013}").as_bytes());
    if let Some(value) = value {
        put_field(&mut message, 2, value);
    }
    let length = u32::try_from(message.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    message[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    message.freeze()
}

/// A field of bytes, in protobuf.
fn put_field(message: &mut BytesMut, field: u8, bytes: &[u8]) {
    message.put_u8(field << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    message.put_u8(u8::try_from(length).unwrap_or(0));
    message.put_slice(bytes);
}

/// One client of one member.
pub(crate) struct Client {
    open: SendRequest<Full<Bytes>>,
    question: Question,
}

/// `count` clients over at most `connections` connections, which take `endpoints` in turn.
pub(crate) async fn clients(
    endpoints: &[String],
    count: usize,
    connections: usize,
    question: Question,
) -> anyhow::Result<Vec<Client>> {
    let mut open = Vec::new();
    for endpoint in endpoints.iter().cycle().take(count.min(connections)) {
        open.push(connect(endpoint).await.with_context(|| format!("cannot connect to {endpoint}"))?);
    }
    let shared = open.iter().cycle().take(count);
    Ok(shared.map(|open| Client { open: open.clone(), question: question.clone() }).collect())
}

async fn connect(endpoint: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(endpoint).await?;
    stream.set_nodelay(true)?;
    let (open, connection) = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await?;
    // It ends when the last client drops its half, and this process soon after.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(open)
}

impl loop_closed::Client for Client {
    async fn ask(&mut self, number: u64) -> anyhow::Result<()> {
        let (uri, message, bytes_min) = self.question.encode(number);
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        self.open.ready().await?;
        let answer = self.open.send_request(request).await?;
        let early = good(answer.headers())?;
        let body = answer.into_body().collect().await?;
        let late = body.trailers().map(good).transpose()?.unwrap_or(false);
        ensure!(early || late, "an answer without an outcome");
        ensure!(body.to_bytes().len() >= bytes_min, "an answer without the value");
        Ok(())
    }
}

/// Whether the outcome is there, and good; an error when it is there and bad.
fn good(headers: &HeaderMap) -> anyhow::Result<bool> {
    let Some(status) = headers.get(STATUS) else { return Ok(false) };
    let said = headers.get(MESSAGE).map(|said| String::from_utf8_lossy(said.as_bytes()));
    ensure!(status == "0", "gRPC status {status:?}: {}", said.unwrap_or_default());
    Ok(true)
}
