//! A peer that has what an honest one has, and passes it on in its own way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use peerglass_catalog::NodeId;
use quinn::Endpoint;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::cluster::Network;
use super::raw::{Asked, Asking, Closer, Receiving, Sending};
use super::tcp;

/// What is wrong with the answers to requests for blobs. The first `honest` answers are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// One bit of the last blob is another.
    WrongBytes,
    /// The first blob is announced one byte longer.
    WrongLength,
    /// The first blob is announced as long as can be.
    HugeLength,
    /// Every blob is said not to be held.
    NotHeld,
    /// The stream ends in the middle.
    Short,
    /// The stream goes on after the last blob, without end.
    Endless,
    /// Bytes stop coming in the middle.
    Stall,
    /// No answer at all, to any request.
    Mute,
    /// The connection is closed in the middle.
    Die,
    /// The same, but only once.
    DieOnce,
    /// News, and the question whether it holds the manifest, are answered with garbage.
    Garbage,
    /// The first blob comes compressed, and is this instead of the frame it should be.
    Frame(Frame),
}

/// What is sent instead of one frame with the right bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// One of 64 MiB of zeros.
    Bomb,
    /// One with a byte less in it.
    Shorter,
    /// One with other bytes in it, as many.
    Other,
    /// The right one, and a byte more.
    Trailing,
    /// The right bytes in two.
    Two,
    /// Bytes that are no frame.
    Noise,
    /// The right one and so much after it that the plain bytes would be shorter.
    Long,
    /// Nothing.
    Empty,
}

impl Frame {
    fn of(self, plain: &[u8]) -> Vec<u8> {
        let pack = |plain: &[u8]| zstd::bulk::compress(plain, 1).unwrap();
        match self {
            Self::Bomb => pack(&vec![0; 64 << 20]),
            Self::Shorter => pack(&plain[1..]),
            Self::Other => pack(&plain.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()),
            Self::Trailing => [pack(plain), vec![0]].concat(),
            Self::Two => [pack(&plain[..1]), pack(&plain[1..])].concat(),
            Self::Noise => vec![0x28; 100],
            Self::Long => [pack(plain), vec![0; plain.len()]].concat(),
            Self::Empty => vec![],
        }
    }
}

/// See the module.
pub(crate) struct Liar {
    endpoint: Endpoint,
    asked: Arc<AtomicUsize>,
    serving: Mutex<JoinSet<()>>,
}

struct Way {
    lie: Lie,
    honest: usize,
    honest_peer: Asking,
    asked: Arc<AtomicUsize>,
}

impl Liar {
    /// A liar called `id` with the bytes of `honest_peer`.
    pub(crate) async fn start(
        network: &Arc<Network>,
        id: u64,
        honest_peer: u64,
        lie: Lie,
        honest: usize,
    ) -> Self {
        let endpoint = network.endpoint(NodeId(id));
        let honest_peer = network.ask(NodeId(id), &endpoint, NodeId(honest_peer)).await;
        let asked = Arc::new(AtomicUsize::new(0));
        let way = Arc::new(Way { lie, honest, honest_peer, asked: Arc::clone(&asked) });
        let mut serving = JoinSet::new();
        match network.listen(NodeId(id)).await {
            Some(listener) => serving.spawn(accept_tcp(listener, way)),
            None => serving.spawn(accept(endpoint.clone(), way)),
        };
        Self { endpoint, asked, serving: Mutex::new(serving) }
    }

    /// How many requests for blobs it was sent.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn kill(&self) {
        self.endpoint.close(0_u32.into(), b"");
        self.serving.lock().unwrap().abort_all();
    }
}

async fn accept(endpoint: Endpoint, way: Arc<Way>) {
    let mut streams = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let Ok(connection) = incoming.await else { continue };
        streams.spawn(serve(Asked::Quic(connection), Arc::clone(&way)));
    }
}

async fn accept_tcp(listener: TcpListener, way: Arc<Way>) {
    let mut streams = JoinSet::new();
    while let Some((stream, _)) = tcp::called(&listener).await {
        let Ok(asked) = Asked::tcp(stream).await else { continue };
        streams.spawn(serve(asked, Arc::clone(&way)));
    }
}

async fn serve(mut asked: Asked, way: Arc<Way>) {
    let (mut answers, closer) = (JoinSet::new(), asked.closer());
    while let Some((send, receive)) = asked.next().await {
        answers.spawn(answer(Arc::clone(&way), closer.clone(), send, receive));
    }
}

/// Frames are `length, version, message`; the first byte of a message says which it is.
const HOLDS: u8 = 0;
const FOLLOW: u8 = 3;

async fn answer(way: Arc<Way>, closer: Closer, mut send: Sending, mut receive: Receiving) {
    let Ok(request) = receive.read_to_end(1 << 20).await else { return };
    if way.lie == Lie::Mute {
        return std::future::pending().await;
    }
    if request.get(5) == Some(&FOLLOW) {
        return follow(&way, &request, send).await;
    }
    let Ok(mut honest) = way.honest_peer.ask(&request, 1 << 26).await else { return };
    let is_lie = if request[5] == HOLDS {
        if way.lie == Lie::Garbage {
            honest = vec![0xff; 100_000];
        }
        false
    } else {
        let asked = way.asked.fetch_add(1, Ordering::Relaxed);
        asked == way.honest || (asked > way.honest && way.lie != Lie::DieOnce)
    };
    if is_lie {
        lie(way.lie, honest, &closer, &mut send).await;
    } else {
        drop(send.write_all(&honest).await);
    }
    drop(send.finish());
}

/// Pass the honest peer's news on.
async fn follow(way: &Way, request: &[u8], mut send: Sending) {
    if way.lie == Lie::Garbage {
        drop(send.write_all(&[0xff; 100_000]).await);
        return;
    }
    let Ok((mut ask, mut told)) = way.honest_peer.open().await else { return };
    if ask.write_all(request).await.is_err() || ask.finish().is_err() {
        return;
    }
    while let Ok(Some(news)) = told.read().await {
        if send.write_all(&news).await.is_err() {
            return;
        }
    }
    drop(send.finish());
}

async fn lie(lie: Lie, mut bytes: Vec<u8>, closer: &Closer, send: &mut Sending) {
    let half = bytes.len() / 2;
    match lie {
        Lie::WrongBytes => *bytes.last_mut().unwrap() ^= 1,
        Lie::WrongLength => bytes[3] = bytes[3].wrapping_add(1),
        Lie::HugeLength => bytes[..4].fill(0xff),
        Lie::NotHeld => bytes = vec![0; 4096],
        Lie::Short => bytes.truncate(half),
        Lie::Endless => loop {
            if send.write_all(&bytes).await.is_err() {
                return;
            }
            bytes = vec![7; 100_000];
        },
        Lie::Stall => {
            drop(send.write_all(&bytes[..half]).await);
            std::future::pending::<()>().await;
        }
        Lie::Die | Lie::DieOnce => {
            drop(send.write_all(&bytes[..half]).await);
            closer.close();
        }
        Lie::Frame(frame) => bytes = instead(frame, &bytes),
        Lie::Mute | Lie::Garbage => {}
    }
    drop(send.write_all(&bytes).await);
}

/// In a blob's length: what follows is compressed.
const ZSTD: u32 = 1 << 31;

/// An answer of which the first blob is another.
fn instead(frame: Frame, answer: &[u8]) -> Vec<u8> {
    let word = u32::from_be_bytes(answer[..4].try_into().unwrap());
    let (first, rest) = answer[4..].split_at((word & !ZSTD) as usize);
    let plain =
        if word & ZSTD == 0 { first.to_vec() } else { zstd::bulk::decompress(first, 1 << 20).unwrap() };
    let sent = frame.of(&plain);
    let head = ZSTD | sent.len() as u32;
    [&head.to_be_bytes()[..], &sent, rest].concat()
}
