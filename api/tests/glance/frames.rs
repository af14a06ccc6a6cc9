//! An HTTP/2 client that sends what it is told to, sensible or not.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What came from the node.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

/// A connection whose pings and settings are acknowledged by itself.
pub(crate) struct Client {
    outgoing: mpsc::Sender<Vec<u8>>,
    incoming: mpsc::Receiver<Frame>,
    _tasks: JoinSet<()>,
}

/// A frame as it is on the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The compressed head of a request: names from the static table, values as they are.
pub(crate) fn head(method: &str, path: &str, media_type: &str) -> Vec<u8> {
    let mut block = vec![0x86];
    for (name, value) in [(2, method), (4, path), (1, "h"), (31, media_type)] {
        // An index of more than four bits goes on in the next byte.
        block.extend(if name < 15 { vec![name] } else { vec![15, name - 15] });
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    }
    block
}

impl Client {
    /// Greet the node. Streams get a window of this many bytes.
    pub(crate) async fn greet<I>(stream: I, window: u32) -> Self
    where
        I: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = split(stream);
        let (outgoing, to_send) = mpsc::channel(64);
        let (came, incoming) = mpsc::channel(100_000);
        let mut tasks = JoinSet::new();
        tasks.spawn(send_all(write, to_send));
        tasks.spawn(receive_all(read, came, outgoing.clone()));
        let mut greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // Setting 4 is the window that a stream begins with.
        let setting = [&[0, 4], &window.to_be_bytes()[..]].concat();
        greeting.extend(frame(SETTINGS, 0, 0, &setting));
        let client = Self { outgoing, incoming, _tasks: tasks };
        client.send(greeting).await;
        client
    }

    /// Send bytes as they are; nothing if the node has closed.
    pub(crate) async fn send(&self, bytes: Vec<u8>) {
        drop(self.outgoing.send(bytes).await);
    }

    pub(crate) async fn get(&self, stream: u32, path: &str) {
        self.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", path, ""))).await;
    }

    pub(crate) async fn ping(&self) {
        self.send(frame(PING, 0, 0, &[7; 8])).await;
    }

    pub(crate) async fn widen(&self, stream: u32, bytes: u32) {
        self.send(frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        self.incoming.recv().await
    }

    /// The next frame of this kind; `None` at the end of the connection.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

async fn send_all(mut stream: WriteHalf<impl AsyncWrite>, mut to_send: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = to_send.recv().await {
        if stream.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

async fn receive_all(
    mut stream: ReadHalf<impl AsyncRead>,
    came: mpsc::Sender<Frame>,
    outgoing: mpsc::Sender<Vec<u8>>,
) {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        let (kind, flags) = (head[3], head[4]);
        if matches!(kind, PING | SETTINGS) && flags & ACK == 0 {
            let echo: &[u8] = if kind == PING { &payload } else { &[] };
            drop(outgoing.send(frame(kind, ACK, 0, echo)).await);
        }
        if came.send(Frame { kind, payload }).await.is_err() {
            break;
        }
    }
}
