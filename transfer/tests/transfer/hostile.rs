//! Peers that send something else than they should, or nothing, or break off (F-N, I-S1).

use std::sync::Arc;
use std::time::Duration;

use futures::future;
use peerglass_catalog::NodeId;
use peerglass_transfer::{DownloadError, ReplicateError, TransferSettings, Workers};

use crate::bodies::{noise, text};
use crate::exchange::settled;
use crate::world::cluster::{Network, Node};
use crate::world::liar::{Frame, Liar, Lie};
use crate::world::{assert_exact, read, reclaim, root, store};

const MIB: usize = 1 << 20;
const LIES: [Lie; 16] = [
    Lie::WrongBytes,
    Lie::WrongLength,
    Lie::HugeLength,
    Lie::NotHeld,
    Lie::Short,
    Lie::Endless,
    Lie::Die,
    Lie::Garbage,
    Lie::Frame(Frame::Bomb),
    Lie::Frame(Frame::Shorter),
    Lie::Frame(Frame::Other),
    Lie::Frame(Frame::Trailing),
    Lie::Frame(Frame::Two),
    Lie::Frame(Frame::Noise),
    Lie::Frame(Frame::Long),
    Lie::Frame(Frame::Empty),
];

/// An image to lie about: of chunks that travel compressed, if that is what is lied about.
fn image(lie: Lie, len: usize) -> Vec<u8> {
    if matches!(lie, Lie::Frame(_)) { text(1, len) } else { noise(1, len) }
}

/// The image comes whole from the honest peer, and the liar is asked no more once it has lied.
async fn survives(network: Arc<Network>, lie: Lie, honest: usize) {
    let over = network.name();
    let giver = Node::start(&network, 1, &[], Workers::Inline).await;
    let liar = Liar::start(&network, 2, 1, lie, honest).await;
    let taker = Node::start(&network, 3, &[2, 1], Workers::Inline).await;
    let image = image(lie, 3 * MIB);
    let size = image.len() as u64;
    let name = root(&store(&giver.transfer, &image).await.unwrap());
    let got = read(&taker.transfer, name, 0..size).await;
    assert!(got.unwrap() == image, "{lie:?} after {honest} over {over}");
    settled(&taker).await;
    assert_exact(&taker.transfer, &*taker.memory.packs, &[&image]).await;
    // What was in flight when it lied was asked before.
    let most = if lie == Lie::NotHeld { usize::MAX } else { honest + 8 };
    assert!(liar.asked() <= most, "{lie:?} after {honest} over {over}: asked {} times", liar.asked());
}

#[tokio::test]
async fn a_peer_that_lies_at_any_point_is_passed_over() {
    for lie in LIES {
        for honest in [0, 1, 2, 5] {
            for network in Network::each() {
                survives(network, lie, honest).await;
            }
        }
    }
}

/// These take as long as a silent peer is waited for.
#[tokio::test]
async fn a_peer_that_stalls_is_passed_over() {
    let ways = [(Lie::Mute, 0), (Lie::Stall, 0), (Lie::Stall, 1), (Lie::Stall, 3)];
    let each =
        ways.into_iter().flat_map(|(lie, honest)| Network::each().map(|over| survives(over, lie, honest)));
    future::join_all(each).await;
}

#[tokio::test]
async fn an_image_that_only_a_liar_has_is_missing_and_leaves_nothing() {
    // One that breaks off half-way has given something each time, and is asked until it has given all.
    for lie in LIES.into_iter().filter(|lie| *lie != Lie::Die) {
        for network in Network::each() {
            is_missing(network, lie).await;
        }
    }
}

async fn is_missing(network: Arc<Network>, lie: Lie) {
    let giver = Node::start(&network, 1, &[], Workers::Inline).await;
    let _liar = Liar::start(&network, 2, 1, lie, 2).await;
    // What is sound of what came is kept for a while; here for no time at all.
    let settings = TransferSettings { resume_within: Duration::ZERO, ..TransferSettings::default() };
    let taker = Node::start_set(&network, 3, &[2], Workers::Inline, settings).await;
    // More than is in flight at once: what a liar sends besides its lie is as good as any.
    let image = image(lie, 14 * MIB);
    let name = root(&store(&giver.transfer, &image).await.unwrap());
    let missing = read(&taker.transfer, name, 0..image.len() as u64).await.map(|bytes| bytes.len());
    let over = network.name();
    assert!(
        matches!(missing, Err(DownloadError::Missing(root)) if root == name),
        "{lie:?} over {over}: {missing:?}"
    );
    settled(&taker).await;
    reclaim(&taker.transfer, &[]).await;
    assert_exact(&taker.transfer, &*taker.memory.packs, &[]).await;
}

/// The first answer of all is the manifest's root.
#[tokio::test]
async fn a_lie_about_a_root_counts_like_any_other() {
    let network = Network::new();
    let giver = Node::start(&network, 1, &[], Workers::Inline).await;
    let _liar = Liar::start(&network, 2, 1, Lie::WrongBytes, 0).await;
    let taker = Node::start(&network, 3, &[2], Workers::Inline).await;
    let name = root(&store(&giver.transfer, &noise(1, MIB)).await.unwrap());
    assert!(read(&taker.transfer, name, 0..MIB as u64).await.is_err());
    let counts = taker.transfer.counts();
    assert_eq!((counts.hash_failures, counts.bans), (1, 1));
}

#[tokio::test]
async fn a_peer_that_dies_half_way_is_relieved_by_another() {
    // Whoever answers first is asked first: on a busy machine that may be the sound one, which proves nothing.
    const TRIES: usize = 20;
    for (network, name) in [(Network::new as fn() -> Arc<Network>, "QUIC"), (Network::of_tcp, "TCP")] {
        let mut tries = 1;
        while !is_relieved(network()).await {
            assert!(tries < TRIES, "the one that dies was never asked first over {name}");
            tries += 1;
        }
    }
}

/// Whether the one that dies was asked often enough to have died.
async fn is_relieved(network: Arc<Network>) -> bool {
    let giver = Node::start(&network, 1, &[], Workers::Inline).await;
    let first = Liar::start(&network, 2, 1, Lie::Mute, 0).await;
    first.kill();
    let second = Liar::start(&network, 4, 1, Lie::Die, 4).await;
    let taker = Node::start(&network, 3, &[2, 4, 1], Workers::Inline).await;
    let image = noise(1, 12 * MIB);
    let name = root(&store(&giver.transfer, &image).await.unwrap());
    assert!(read(&taker.transfer, name, 0..image.len() as u64).await.unwrap() == image);
    second.asked() >= 4
}

/// Nodes are restarted one after the other, as when they are upgraded, while one of them pulls.
#[tokio::test]
async fn a_pull_outlives_the_restart_of_its_only_sources() {
    for network in Network::each() {
        let giver = Node::start(&network, 1, &[], Workers::Inline).await;
        let _first = Liar::start(&network, 2, 1, Lie::DieOnce, 3).await;
        let _second = Liar::start(&network, 4, 1, Lie::DieOnce, 3).await;
        let taker = Node::start(&network, 3, &[2, 4], Workers::Inline).await;
        let image = noise(1, 20 * MIB);
        let name = root(&store(&giver.transfer, &image).await.unwrap());
        assert!(read(&taker.transfer, name, 0..image.len() as u64).await.unwrap() == image);
    }
}

/// A peer that says it holds a copy, as far as it says anything.
#[tokio::test]
async fn a_peer_that_does_not_answer_a_hold_holds_nothing() {
    for network in Network::each() {
        let giver = Node::start(&network, 1, &[2, 3], Workers::Inline).await;
        let _liar = Liar::start(&network, 2, 1, Lie::Short, 0).await;
        let _honest = Node::start(&network, 3, &[], Workers::Inline).await;
        let name = root(&store(&giver.transfer, &noise(1, MIB)).await.unwrap());
        assert_eq!(giver.transfer.replicate(name, 1, &[]).await.unwrap(), [NodeId(3)]);
        let refused = giver.transfer.replicate(name, 2, &[]).await;
        assert!(matches!(refused, Err(ReplicateError::NotEnough { wanted: 2, got: 1 })), "{refused:?}");
    }
}

#[tokio::test]
async fn no_request_breaks_the_serving_side() {
    for network in Network::each() {
        let giver = Node::start(&network, 1, &[], Workers::Inline).await;
        let name = root(&store(&giver.transfer, &noise(1, 100_000)).await.unwrap());
        let endpoint = network.endpoint(NodeId(9));
        let connection = network.ask(NodeId(9), &endpoint, NodeId(1)).await;
        let ask = |digest: &[u8]| [&[0, 0, 0, 69, 2, 1][..], &name.0.0, &[1], digest, &[0, 1]].concat();
        let blobs = ask(&name.0.0);
        for bytes in no_requests(&blobs) {
            let answered = connection.ask(&bytes, MIB).await;
            assert!(answered.is_err(), "{:?} over {}", &bytes[..bytes.len().min(20)], network.name());
        }
        let answer = connection.ask(&blobs, MIB).await.unwrap();
        assert!(answer.len() > 4, "the root is still given on the same connection");
        let nothing = connection.ask(&ask(&[3; 32]), MIB).await.unwrap();
        assert_eq!(nothing, [0; 4], "what is not held is said not to be");
    }
}

/// What is no request, the last but one almost: `request` is one.
fn no_requests(request: &[u8]) -> Vec<Vec<u8>> {
    vec![
        vec![],
        vec![0; 3],
        vec![0; 4],
        vec![0xff; 70_000],
        vec![0, 1, 0, 1, 2],
        vec![0, 0, 0, 2, 2, 9],
        vec![0, 0, 0, 2, 1, 0],
        [&[0, 0, 0, 36, 2, 1][..], &[0; 34]].concat(),
        [&[0, 0, 0, 46, 2, 1][..], &[0; 32], &[0xff; 9], &[1, 0, 0]].concat(),
        [request, &[0]].concat(),
        request[..30].to_vec(),
        noise(2, 60_000),
    ]
}

/// Requests that are begun and not finished take nothing from those that are.
#[tokio::test]
async fn half_requests_do_not_block_a_connection() {
    for network in Network::each() {
        let giver = Node::start(&network, 1, &[], Workers::Inline).await;
        let name = root(&store(&giver.transfer, &noise(1, 100_000)).await.unwrap());
        let endpoint = network.endpoint(NodeId(9));
        let connection = network.ask(NodeId(9), &endpoint, NodeId(1)).await;
        let mut open = Vec::new();
        for _ in 0..40 {
            let (mut send, receive) = connection.open().await.unwrap();
            send.write_all(&[0, 0]).await.unwrap();
            open.push((send, receive));
        }
        let holds = [&[0, 0, 0, 34, 2, 0][..], &name.0.0].concat();
        assert_eq!(connection.ask(&holds, MIB).await.unwrap(), [0, 0, 0, 3, 2, 0, 1]);
    }
}
