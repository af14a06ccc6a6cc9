//! A peer whose TCP is slow, or not there, and whose QUIC is quick, or not there.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use peerglass_catalog::MemoryKeyspace;
use peerglass_transfer::{Calls, MemoryPacks, Transfer, TransferDisk, TransferSettings, Transport, Workers};
use quinn::Runtime;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::discovery::Sightings;
use crate::peers::key::NodeKey;
use crate::peers::port::{PeerPort, PortChance};

/// The side that dials, and the ports of the one that is dialled.
struct Two {
    dialer: Dialer,
    answers: Answers,
    entry: NodeEntry,
    peer: PeerPort,
    slot: Slot,
}

fn port_of(seed: u8, at: SocketAddr) -> PeerPort {
    let socket = quinn::TokioRuntime.wrap_udp_socket(UdpSocket::bind(at).unwrap()).unwrap();
    PeerPort::new(&NodeKey::from_seed([seed; 32]), socket, PortChance::System).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "a test is its own surroundings")]
async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Two {
    /// Connections over TCP are taken by the kernel, and greeted by nobody yet.
    async fn new() -> Self {
        let listener = listener().await;
        let at = listener.local_addr().unwrap();
        Self::with(port_of(2, at).with_tcp(listener)).await
    }

    /// Connections over TCP are refused by the kernel.
    async fn without_tcp() -> Self {
        Self::with(port_of(2, "127.0.0.1:0".parse().unwrap())).await
    }

    async fn with(peer: PeerPort) -> Self {
        let at = peer.local_addr().unwrap();
        let own = port_of(1, "127.0.0.1:0".parse().unwrap()).with_tcp(listener().await);
        let disk =
            TransferDisk { packs: Arc::new(MemoryPacks::new()), index: Arc::new(MemoryKeyspace::new()) };
        let settings = TransferSettings::default();
        let transfer = Transfer::open(settings, disk, Workers::Inline, 0, None).await.unwrap();
        let answers = Answers::default();
        answers.with(&transfer);
        let key = NodeKey::from_seed([2; 32]).peer_key();
        let entry = NodeEntry { key, address: at.to_string(), ..NodeEntry::default() };
        let dialer = Dialer::new(own, Sightings::default());
        Self { dialer, answers, entry, peer, slot: Slot::default() }
    }

    async fn open(&mut self) -> Option<Transport> {
        let Self { dialer, answers, entry, slot, .. } = self;
        let opened = slot.open(Way { peer: NodeId(2), entry, dialer, answers }).await;
        opened.ok().map(|connection| connection.transport())
    }

    /// Ask again and again until there is a connection over `wanted`.
    async fn comes_to(&mut self, wanted: Transport) {
        while self.open().await != Some(wanted) {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Let everybody in over QUIC.
async fn take_quic(peer: PeerPort) {
    let mut open = Vec::new();
    while let Some(incoming) = peer.endpoint().accept().await {
        open.extend(incoming.await);
    }
}

/// Let everybody in over TCP.
async fn take_tcp(peer: PeerPort) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = peer.accept_tcp().await {
        let peer = peer.clone();
        open.spawn(async move {
            if let Ok((stream, _)) = peer.greet_tcp(stream).await {
                let _calls = Calls::over_tcp(stream).await;
                pending::<()>().await;
            }
        });
    }
}

#[tokio::test]
async fn tcp_that_comes_late_is_used_from_then_on() {
    let mut two = Two::new().await;
    let (peer, mut serving) = (two.peer.clone(), JoinSet::new());
    let over_quic = async move { peer.endpoint().accept().await.unwrap().await.unwrap().closed().await };
    let mut over_quic = std::pin::pin!(over_quic);
    tokio::select! {
        closed = &mut over_quic => panic!("{closed}"),
        () = two.comes_to(Transport::Quic) => {}
    }
    assert!(two.slot.tcp.is_some(), "the dial over TCP goes on");
    assert!(timeout(RETRY_AFTER, &mut over_quic).await.is_err(), "meanwhile there is the one over QUIC");
    serving.spawn(take_tcp(two.peer.clone()));
    two.comes_to(Transport::Tcp).await;
    over_quic.await;
}

#[tokio::test]
async fn tcp_is_waited_for_where_quic_fails() {
    let mut two = Two::new().await;
    two.peer.endpoint().close(0_u32.into(), b"");
    let mut serving = JoinSet::new();
    let peer = two.peer.clone();
    serving.spawn(async move {
        sleep(TCP_HEAD_START * 5 / 4).await;
        take_tcp(peer).await;
    });
    assert_eq!(two.open().await, Some(Transport::Tcp));
}

#[tokio::test]
async fn only_tcp_that_fails_is_left_alone() {
    let mut two = Two::without_tcp().await;
    assert_eq!(two.open().await, None, "nobody is there");
    assert_eq!(two.slot.no_tcp_before, None, "so TCP is no worse than QUIC");
    let mut serving = JoinSet::new();
    serving.spawn(take_quic(two.peer.clone()));
    two.comes_to(Transport::Quic).await;
    assert!(two.slot.no_tcp_before.is_some());
    assert_eq!(two.open().await, Some(Transport::Quic));
    assert!(two.slot.tcp.is_none(), "it is not dialled again");
}

/// Whoever asked first loses interest while TCP is under way; the dial goes on for whoever asks next.
#[tokio::test]
async fn a_dial_outlives_whoever_began_it() {
    let mut two = Two::new().await;
    assert!(timeout(TCP_HEAD_START / 10, two.open()).await.is_err(), "it cannot have come about");
    assert!(two.slot.tcp.is_some());
    assert_eq!(two.slot.not_before, None, "that says nothing of the peer");
    let mut serving = JoinSet::new();
    serving.spawn(take_tcp(two.peer.clone()));
    assert_eq!(two.open().await, Some(Transport::Tcp));
}
