//! Many nodes that want one image at once share it among themselves (F-N, I-D1, I-D4).

use std::sync::Arc;
use std::time::Duration;

use futures::future;
use peerglass_catalog::{ManifestRoot, NodeId};
use peerglass_transfer::{PackDisk, Share, Workers};

use crate::bodies::noise;
use crate::exchange::settled;
use crate::world::cluster::{Network, Node, nodes};
use crate::world::liar::{Liar, Lie};
use crate::world::{assert_exact, read, reclaim, root, store};

const MIB: usize = 1 << 20;

/// Bytes that came to `nodes` over connections to the node `from`.
async fn received_from(nodes: &[Node], from: u64) -> u64 {
    let received = nodes.iter().map(|node| node.peers.received_from(NodeId(from)));
    future::join_all(received).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_want_at_once_leaves_its_source_little_more_than_once() {
    let nodes = nodes(&Network::new(), 7, Workers::Threads).await;
    let image = noise(1, 48 * MIB);
    let size = image.len() as u64;
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    let takers = &nodes[1..];
    let got = future::join_all(takers.iter().map(|node| read(&node.transfer, name, 0..size))).await;
    assert!(got.into_iter().all(|got| got.unwrap() == image));
    let copies = received_from(takers, 1).await as f64 / size as f64;
    assert!(copies < 2.0, "six nodes took {copies} copies from the one that had it");
    for node in takers {
        settled(node).await;
        assert_exact(&node.transfer, &*node.memory.packs, &[&image]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_over_tcp_brings_every_byte_to_everybody() {
    let nodes = nodes(&Network::of_tcp(), 7, Workers::Threads).await;
    let image = noise(1, 48 * MIB);
    let size = image.len() as u64;
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    let (giver, takers) = nodes.split_first().unwrap();
    let got = future::join_all(takers.iter().map(|node| read(&node.transfer, name, 0..size))).await;
    assert!(got.into_iter().all(|got| got.unwrap() == image));
    giver.kill();
    for node in takers {
        settled(node).await;
        assert_exact(&node.transfer, &*node.memory.packs, &[&image]).await;
    }
}

/// F-P1: what is left of a swarm goes on without its source as long as it has everything between it. Here the
/// source gives a part and then nothing, so whoever has more of it has it of one that is not done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_pulls_passes_on_what_it_has() {
    const PART: u32 = 8;
    let network = Network::new();
    let giver = Node::start(&network, 1, &[], Workers::Threads).await;
    let name = root(&store(&giver.transfer, &noise(1, 24 * MIB)).await.unwrap());
    let _source = Liar::start(&network, 2, 1, Lie::Stall, 12).await;
    // The first can reach the source, the last only the one between.
    let first = Node::start(&network, 3, &[2, 4], Workers::Threads).await;
    let last = Node::start(&network, 4, &[3], Workers::Threads).await;
    first.transfer.prefetch(name, first.id).unwrap();
    let of_first = has_pieces(&first, name, PART).await;
    last.transfer.prefetch(name, last.id).unwrap();
    let of_last = has_pieces(&last, name, PART).await;
    assert!(of_first.pulling && of_last.pulling, "neither can be done");
}

/// Wait until the node has so many pieces.
async fn has_pieces(node: &Node, name: ManifestRoot, pieces: u32) -> Share {
    loop {
        let said = node.transfer.survey(name).await.unwrap();
        let share = said.into_iter().find_map(|(of, share)| share.filter(|_| of == node.id)).unwrap();
        if share.pieces >= pieces {
            return share;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// I-D1: of several who want it, none is given a wrong byte, and all are served without the one that lies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_sends_garbage_does_not_hold_up_a_swarm() {
    for lie in [Lie::WrongBytes, Lie::NotHeld, Lie::Garbage, Lie::Die] {
        let network = Network::new();
        let giver = Node::start(&network, 1, &[], Workers::Threads).await;
        let image = noise(1, 16 * MIB);
        let size = image.len() as u64;
        let name = root(&store(&giver.transfer, &image).await.unwrap());
        let _liar = Liar::start(&network, 2, 1, lie, 3).await;
        let mut takers = Vec::new();
        for id in 3..=5 {
            let others: Vec<u64> = (1..=5).filter(|other| *other != id).collect();
            takers.push(Node::start(&network, id, &others, Workers::Threads).await);
        }
        let got = future::join_all(takers.iter().map(|node| read(&node.transfer, name, 0..size))).await;
        assert!(got.into_iter().all(|got| got.unwrap() == image), "{lie:?}");
    }
}

/// F-P2: what a node was fetching when it stopped is fetched again by the next start, and nothing is left of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_come_and_go_leave_a_swarm_whole() {
    let network = Network::new();
    let all: Vec<Arc<Node>> = nodes(&network, 5, Workers::Threads).await.into_iter().map(Arc::new).collect();
    let image = noise(1, 64 * MIB);
    let size = image.len() as u64;
    let name = root(&store(&all[0].transfer, &image).await.unwrap());
    let leaver = Arc::clone(&all[1]);
    let leaving = async move {
        let mut download = leaver.transfer.download(name, 0..size).await.unwrap();
        for _ in 0..4 {
            let _piece = futures::StreamExt::next(&mut download).await.unwrap().unwrap();
        }
        leaver.kill();
        leaver.transfer.stop().await;
    };
    let staying = all[2..].iter().map(|node| read(&node.transfer, name, 0..size));
    let ((), got) = future::join(leaving, future::join_all(staying)).await;
    assert!(got.into_iter().all(|got| got.unwrap() == image));
    for node in &all[2..] {
        settled(node).await;
        reclaim(&node.transfer, &[name]).await;
        assert_exact(&node.transfer, &*node.memory.packs, &[&image]).await;
    }
    assert_eq!(all[1].memory.packs.list().unwrap(), []);
}
