//! Letting go of what others keep, and of nothing else (I-D7, I-D11).

use std::io;

use peerglass_catalog::{ManifestRoot, NodeId};
use peerglass_transfer::{Evicted, Keepers, ReclaimError, StateUnknown, Workers};

use crate::bodies::noise;
use crate::crashes::chance;
use crate::exchange::settled;
use crate::world::cluster::{Network, Node, nodes};
use crate::world::faulty::{FaultyDisk, Fuse};
use crate::world::{assert_exact, open, read, reclaim, root, store};

const SIZE: u64 = 300_000;

fn believe(node: &Node, at: u64, keepers: &[u64]) {
    let nodes = keepers.iter().copied().map(NodeId).collect();
    *node.peers.keepers.lock().unwrap() = Some(Keepers { at, nodes, anybody: false });
}

fn holds(node: &Node, name: ManifestRoot) -> bool {
    node.transfer.holds(name).unwrap()
}

/// Two nodes, the first of which keeps an image that the second has read.
async fn kept_and_cached() -> (Vec<Node>, ManifestRoot, Vec<u8>) {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let image = noise(1, SIZE as usize);
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    nodes[1].transfer.fetch(name).await.unwrap();
    nodes.iter().for_each(|node| believe(node, 1, &[1]));
    (nodes, name, image)
}

#[tokio::test]
async fn what_others_keep_goes_the_oldest_first_and_only_as_much_as_must() {
    let nodes = nodes(&Network::new(), 2, Workers::Threads).await;
    let mut names = Vec::new();
    for seed in 0..4 {
        let name = root(&store(&nodes[0].transfer, &noise(seed, SIZE as usize)).await.unwrap());
        read(&nodes[1].transfer, name, 0..SIZE).await.unwrap();
        settled(&nodes[1]).await;
        names.push(name);
    }
    nodes.iter().for_each(|node| believe(node, 7, &[1]));
    let all = nodes[1].transfer.usage().stored_bytes;
    assert_eq!(nodes[1].transfer.evict(all).await.unwrap(), Evicted::default(), "it fits");
    let evicted = nodes[1].transfer.evict(all - 1).await.unwrap();
    assert_eq!(evicted.manifests, 1);
    assert!(evicted.bytes > SIZE * 9 / 10, "{evicted:?}");
    let held: Vec<bool> = names.iter().map(|name| holds(&nodes[1], *name)).collect();
    assert_eq!(held, [false, true, true, true]);
    let evicted = nodes[1].transfer.evict(0).await.unwrap();
    assert_eq!((evicted.manifests, nodes[1].transfer.usage().stored_bytes), (3, 0));
    assert_eq!(nodes[0].transfer.evict(0).await.unwrap(), Evicted::default(), "a home lets nothing go");
    assert!(read(&nodes[1].transfer, names[2], 0..SIZE).await.unwrap() == noise(2, SIZE as usize));
}

#[tokio::test]
async fn what_nobody_else_surely_keeps_stays() {
    let (nodes, name, image) = kept_and_cached().await;
    let cache = &nodes[1];
    let stays = async |why: &str| {
        assert_eq!(cache.transfer.evict(0).await.unwrap().manifests, 0, "{why}");
        assert!(holds(cache, name), "{why}");
    };
    *cache.peers.keepers.lock().unwrap() = None;
    let unknown = cache.transfer.evict(0).await.unwrap();
    assert_eq!(unknown.manifests, 0, "nobody knows who keeps it");
    believe(cache, 1, &[]);
    stays("nobody keeps it").await;
    believe(cache, 1, &[1, 2]);
    stays("this node keeps it").await;
    *cache.peers.keepers.lock().unwrap() = Some(Keepers { at: 1, nodes: vec![NodeId(1)], anybody: true });
    stays("too many images name it").await;
    believe(cache, 2, &[1]);
    stays("the home has not heard of entry 2").await;
    believe(&nodes[0], 3, &[2]);
    stays("it is no home by its own state").await;
    believe(&nodes[0], 3, &[1]);
    let download = cache.transfer.download(name, 0..SIZE).await.unwrap();
    stays("somebody reads it").await;
    drop(download);
    let only_here = root(&store(&cache.transfer, &noise(9, 1_000)).await.unwrap());
    assert_eq!(cache.transfer.evict(0).await.unwrap().manifests, 1, "only what the home has");
    assert!(holds(cache, only_here) && !holds(cache, name));
    cache.transfer.fetch(name).await.unwrap();
    reclaim(&nodes[0].transfer, &[]).await;
    stays("the home has lost it").await;
    nodes[0].transfer.fetch(name).await.unwrap();
    nodes[0].kill();
    stays("the home does not answer").await;
    assert!(read(&cache.transfer, name, 0..SIZE).await.unwrap() == image);
}

#[tokio::test]
async fn without_a_newest_state_nothing_goes() {
    let (nodes, name, _) = kept_and_cached().await;
    // The barrier fails, though an old state was there.
    nodes[1].peers.cut_off();
    let evicted = nodes[1].transfer.evict(0).await;
    assert!(matches!(evicted, Err(ReclaimError::Unknown(StateUnknown))), "{evicted:?}");
    assert!(holds(&nodes[1], name));
}

/// Two nodes that learn of changes at different times, and let go at once: each time one of them holds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_never_let_go_of_the_last_two_copies() {
    let (nodes, name, image) = kept_and_cached().await;
    let mut let_go = 0;
    for round in 0..60_u64 {
        let at = 10 * (round + 1);
        let (home, other) = if round % 2 == 0 { (2, 1) } else { (1, 2) };
        // The old home, the new one, or both are ahead.
        if round % 3 != 1 {
            believe(&nodes[home - 1], at, &[home as u64]);
        }
        if round % 3 != 2 {
            believe(&nodes[other - 1], at, &[home as u64]);
        }
        let (first, second) = tokio::join!(nodes[0].transfer.evict(0), nodes[1].transfer.evict(0));
        let_go += first.unwrap().manifests + second.unwrap().manifests;
        let holders = nodes.iter().filter(|node| holds(node, name)).count();
        assert!(holders >= 1, "round {round}: the last copy is gone");
        for node in &nodes {
            node.transfer.fetch(name).await.unwrap();
        }
    }
    assert!(let_go > 10, "only {let_go} times something was let go");
    assert!(read(&nodes[0].transfer, name, 0..SIZE).await.unwrap() == image);
}

/// The machine dies at each step of letting go: what is held is whole, and nothing is left of what is not.
#[tokio::test]
async fn a_power_cut_while_letting_go_leaves_all_or_nothing() {
    let network = Network::new();
    let giver = Node::start(&network, 1, &[2], Workers::Inline).await;
    let image = [noise(1, 60_000), noise(2, SIZE as usize)].concat();
    let name = root(&store(&giver.transfer, &image).await.unwrap());
    believe(&giver, 1, &[1]);
    let mut gone = 0;
    for at in 0.. {
        let disk = FaultyDisk::new(Fuse::Safe);
        let node = Node::start_on(&network, 2, &[1], Workers::Inline, disk.disk()).await.unwrap();
        // Shares chunks with what goes, and is guarded.
        let stays = store(&node.transfer, &noise(1, 60_000)).await.unwrap();
        node.transfer.fetch(name).await.unwrap();
        settled(&node).await;
        believe(&node, 1, &[1]);
        disk.rewire(Fuse::Dead { at });
        let evicted = node.transfer.evict(0).await;
        let is_through = disk.steps_taken() <= at;
        node.kill();
        let disk = disk.after_power_cut(chance(at as u64 + 1), Fuse::Safe);
        let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
        assert!(read(&transfer, root(&stays), 0..60_000).await.is_ok_and(|got| got == noise(1, 60_000)));
        let (mut named, mut expected) = (vec![root(&stays)], vec![noise(1, 60_000)]);
        if transfer.holds(name).unwrap() {
            assert!(read(&transfer, name, 0..image.len() as u64).await.is_ok_and(|got| got == image), "{at}");
            named.push(name);
            expected.push(image.clone());
        } else {
            gone += 1;
        }
        reclaim(&transfer, &named).await;
        let expected: Vec<&[u8]> = expected.iter().map(Vec::as_slice).collect();
        assert_exact(&transfer, &disk, &expected).await;
        if is_through {
            assert_eq!(evicted.unwrap().manifests, 1);
            break;
        }
    }
    assert!(gone > 2, "it went at some of the steps only: {gone}");
}

#[tokio::test]
async fn one_error_while_letting_go_harms_nothing() {
    let network = Network::new();
    let giver = Node::start(&network, 1, &[2], Workers::Inline).await;
    let image = noise(1, SIZE as usize);
    let name = root(&store(&giver.transfer, &image).await.unwrap());
    believe(&giver, 1, &[1]);
    for at in 0..12 {
        let disk = FaultyDisk::new(Fuse::Safe);
        let node = Node::start_on(&network, 2, &[1], Workers::Inline, disk.disk()).await.unwrap();
        node.transfer.fetch(name).await.unwrap();
        believe(&node, 1, &[1]);
        disk.rewire(Fuse::Once { at, kind: io::ErrorKind::StorageFull });
        let _may_fail = node.transfer.evict(0).await;
        disk.rewire(Fuse::Safe);
        let got = read(&node.transfer, name, 0..SIZE).await;
        assert!(got.is_ok_and(|got| got == image), "step {at}");
        settled(&node).await;
        reclaim(&node.transfer, &[name]).await;
        assert_exact(&node.transfer, &disk, &[&image]).await;
        node.kill();
    }
}
