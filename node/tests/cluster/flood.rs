//! What reaches a node's TCP port to wear it out, from strangers and from a member (F-N9, PP-03, PP-19).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::lab::{Lab, bytes};

/// Long beside what a node waits for in a handshake, and for what it sent.
const PATIENCE: Duration = Duration::from_secs(20);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `POST https://peerglass/`, as HPACK writes it.
const HEAD: &[u8] = b"\x83\x87\x84\x41\x09peerglass";

/// Kinds of frames (RFC 9113).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How a member misuses HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misuse {
    /// Requests are taken back at once, without end.
    RapidReset,
    /// One head of many megabytes.
    HugeHead,
    /// The same, in frames with nothing in them.
    EmptyContinuations,
    /// Settings and pings, whose answers are not read.
    Settings,
    Pings,
    /// Requests whose answers there is no window for.
    NoWindow,
}

const MISUSES: [Misuse; 6] = [
    Misuse::RapidReset,
    Misuse::HugeHead,
    Misuse::EmptyContinuations,
    Misuse::Settings,
    Misuse::Pings,
    Misuse::NoWindow,
];

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

impl Misuse {
    fn begins(self) -> Vec<u8> {
        // The window streams begin with: none.
        let settings: &[u8] = if self == Self::NoWindow { &[0, 4, 0, 0, 0, 0] } else { &[] };
        let settings = frame(SETTINGS, 0, 0, settings);
        let opens = matches!(self, Self::HugeHead | Self::EmptyContinuations);
        let head = if opens { frame(HEADERS, 0, 1, HEAD) } else { Vec::new() };
        [PREFACE, &settings, &head].concat()
    }

    /// What is sent again and again; `turn` says how often it was.
    fn goes_on(self, turn: u32) -> Vec<u8> {
        let stream = turn * 2 + 1;
        match self {
            Self::RapidReset => {
                [frame(HEADERS, END_HEADERS, stream, HEAD), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])]
                    .concat()
            }
            Self::HugeHead => {
                frame(CONTINUATION, 0, 1, &[&b"\x00\x01x\x7f\x81\x7c"[..], &[b'y'; 16_000]].concat())
            }
            Self::EmptyContinuations => frame(CONTINUATION, 0, 1, &[]),
            Self::Settings => frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
            Self::Pings => frame(PING, 0, 0, &[7; 8]),
            Self::NoWindow => {
                let asks = [&[0, 0, 0, 34, 2, 0][..], &[3; 32]].concat();
                [frame(HEADERS, END_HEADERS, stream, HEAD), frame(DATA, END_STREAM, stream, &asks)].concat()
            }
        }
    }

    /// Whether the other side reads what comes back, which is what ends a connection that breaks the rules.
    fn reads(self) -> bool {
        !matches!(self, Self::Settings | Self::Pings)
    }

    /// Whether it breaks the protocol, so that the node has to end it.
    fn must_end(self) -> bool {
        matches!(self, Self::HugeHead | Self::EmptyContinuations)
    }
}

/// Do it until the connection ends or `done`. Answers with whether it has ended.
async fn misuse(
    stream: impl AsyncReadExt + AsyncWriteExt + Send,
    how: Misuse,
    done: Arc<AtomicBool>,
) -> bool {
    let (mut read, mut write) = tokio::io::split(stream);
    let reading = async {
        match how.reads() {
            true => while read.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {},
            false => std::future::pending().await,
        }
    };
    let writing = async {
        if write.write_all(&how.begins()).await.is_err() {
            return;
        }
        for turn in 0.. {
            if write.write_all(&how.goes_on(turn)).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
    };
    let stopped = async {
        while !done.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = reading => true,
        () = writing => true,
        () = stopped => false,
    }
}

/// An image that goes from each of two nodes to the other.
async fn crosses(lab: &Lab, seed: u64) {
    for (from, to) in [(0, 1), (1, 0)] {
        let (id, content) = (lab.create(from, "crosses").await, bytes(1_500_017, seed + from as u64));
        assert_eq!(lab.put(from, &format!("/v2/images/{id}/file"), &content).await, 204);
        assert!(lab.get_patiently(to, &format!("/v2/images/{id}/file")).await == content, "{from} to {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_floods_http2_keeps_nobody_from_being_served() {
    let lab = Lab::start(2).await;
    let (port, at, key) = (lab.second_port(1), lab.peer_address(0), lab.key(0).peer_key());
    for (number, how) in MISUSES.into_iter().enumerate() {
        let done = Arc::new(AtomicBool::new(false));
        let mut floods = JoinSet::new();
        for _ in 0..4 {
            let stream = port.dial_tcp(key, at).await.unwrap();
            floods.spawn(misuse(stream, how, Arc::clone(&done)));
        }
        crosses(&lab, number as u64 * 10).await;
        if !how.must_end() {
            done.store(true, Ordering::Relaxed);
        }
        let ended = timeout(PATIENCE, floods.join_all()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{how:?} goes on and on"));
        assert!(!how.must_end() || ended.into_iter().all(|ended| ended), "{how:?}");
    }
    lab.stop().await;
}

/// A connection from one of this machine's own addresses.
async fn connect(from: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, from], 0)))?;
    socket.connect(to).await
}

/// Begin to greet, and wait for the end.
async fn begin_and_stall(mut stream: TcpStream) {
    const HALF: [u8; 7] = [22, 3, 1, 2, 0, 1, 0];
    drop(stream.write_all(&HALF).await);
    drop(stream.read_to_end(&mut Vec::new()).await);
}

/// Strangers at many addresses take all the places for handshakes there are, and again as soon as one is free.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_stall_end_and_keep_nobody_from_being_served() {
    const ADDRESSES: u8 = 6;
    const EACH: usize = 50;
    const HANDSHAKES_MAX: usize = 128;
    let lab = Lab::start(2).await;
    let at = lab.peer_address(0);
    let mut stalled = JoinSet::new();
    for number in 0..usize::from(ADDRESSES) * EACH {
        let stream = connect(10 + (number / EACH) as u8, at).await.unwrap();
        stalled.spawn(async move {
            begin_and_stall(stream).await;
            number
        });
    }
    let first = timeout(PATIENCE, stalled.join_next()).await.expect("one is turned away").unwrap().unwrap();
    assert!(first >= HANDSHAKES_MAX - EACH, "number {first} ended before those for whom there is no place");
    let done = Arc::new(AtomicBool::new(false));
    let mut again = JoinSet::new();
    for number in 0..usize::from(ADDRESSES) * EACH {
        let done = Arc::clone(&done);
        again.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                // There may be no room in the queue of the kernel.
                if let Ok(stream) = connect(10 + (number / EACH) as u8, at).await {
                    begin_and_stall(stream).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    crosses(&lab, 1).await;
    timeout(PATIENCE, stalled.join_all()).await.expect("each is given up");
    done.store(true, Ordering::Relaxed);
    timeout(PATIENCE, again.join_all()).await.expect("each is given up");
    lab.stop().await;
}
