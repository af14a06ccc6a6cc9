//! A pull that breaks off, and the one after it: what was brought need not be brought again
//! (F-P1, F-N7; I-D6, I-D9).

use std::sync::Arc;
use std::time::Duration;

use peerglass_catalog::{ManifestRoot, NodeId};
use peerglass_transfer::{PackDisk, TransferSettings, Workers};

use crate::bodies::noise;
use crate::world::cluster::{Network, Node};
use crate::world::{Memory, assert_exact, read, reclaim, root, store};

const IMAGE: usize = 8 << 20;

fn settings(resume_within: Duration) -> TransferSettings {
    TransferSettings { checkpoint_bytes: 512 << 10, resume_within, ..TransferSettings::default() }
}

async fn taker(network: &Arc<Network>, memory: &Memory, resume_within: Duration) -> Node {
    let disk = (memory.disk(), settings(resume_within));
    Node::start_with(network, 3, &[1], Workers::Inline, disk).await.unwrap()
}

/// Two nodes that hold an image, the first of which has lost the second half of it; and the image's name.
async fn half_and_whole(network: &Arc<Network>, image: &[u8]) -> (Node, Node, ManifestRoot) {
    let half = Node::start(network, 1, &[], Workers::Inline).await;
    let whole = Node::start(network, 2, &[], Workers::Inline).await;
    let name = root(&store(&half.transfer, image).await.unwrap());
    let _stored = store(&whole.transfer, image).await.unwrap();
    let (pack, _) = half.memory.packs.list().unwrap()[0];
    let mut bytes = half.memory.packs.bytes(pack).unwrap();
    // Pages and root come last.
    bytes[IMAGE / 2..IMAGE].fill(0);
    half.memory.packs.overwrite(pack, bytes);
    (half, whole, name)
}

fn received(node: &Node) -> usize {
    node.transfer.counts().received_bytes.iter().flatten().sum::<u64>() as usize
}

#[tokio::test]
async fn what_a_pull_has_brought_is_not_brought_again_even_after_a_restart() {
    let network = Network::new();
    let image = noise(1, IMAGE);
    let (_half, _whole, name) = half_and_whole(&network, &image).await;
    let memory = Memory::new();
    let first = taker(&network, &memory, Duration::from_hours(1)).await;
    assert!(first.transfer.fetch(name).await.is_err(), "nobody it knows has the second half");
    let brought = received(&first);
    assert!(brought > IMAGE / 3, "{brought} bytes");
    // Nobody knows whether it will be wanted again.
    reclaim(&first.transfer, &[]).await;
    first.transfer.stop().await;
    first.kill();

    let second = taker(&network, &memory, Duration::from_hours(1)).await;
    reclaim(&second.transfer, &[]).await;
    second.peers.candidates.lock().unwrap().push(NodeId(2));
    second.transfer.fetch(name).await.unwrap();
    let again = received(&second);
    assert!(brought + again < IMAGE * 11 / 10, "{brought} bytes, and then {again}");
    assert!(read(&second.transfer, name, 0..IMAGE as u64).await.unwrap() == image);
    reclaim(&second.transfer, &[name]).await;
    assert_exact(&second.transfer, &*memory.packs, &[&image]).await;
    reclaim(&second.transfer, &[]).await;
    assert_exact(&second.transfer, &*memory.packs, &[]).await;
}

/// An image that has something in common with what was brought ends the time of nothing else.
#[tokio::test]
async fn another_image_with_some_of_it_leaves_the_rest_for_the_next_pull() {
    let network = Network::new();
    let image = noise(3, IMAGE);
    let (_half, _whole, name) = half_and_whole(&network, &image).await;
    let memory = Memory::new();
    let node = taker(&network, &memory, Duration::from_hours(1)).await;
    assert!(node.transfer.fetch(name).await.is_err(), "nobody it knows has the second half");
    let brought = received(&node);

    let other = [&image[..IMAGE / 8], &noise(4, 1 << 20)[..]].concat();
    let named = root(&store(&node.transfer, &other).await.unwrap());
    assert!(node.transfer.usage().stored_bytes < (brought + other.len()) as u64, "some of it was here");
    reclaim(&node.transfer, &[named]).await;
    node.peers.candidates.lock().unwrap().push(NodeId(2));
    node.transfer.fetch(name).await.unwrap();
    let all = received(&node);
    assert!(all < IMAGE * 11 / 10, "{all} bytes, {brought} of them before");
    reclaim(&node.transfer, &[name, named]).await;
    assert_exact(&node.transfer, &*memory.packs, &[&image, &other]).await;
}

#[tokio::test]
async fn what_nobody_takes_up_again_is_reclaimed_in_time() {
    let network = Network::new();
    let image = noise(2, IMAGE);
    let (_half, _whole, name) = half_and_whole(&network, &image).await;
    let memory = Memory::new();
    let node = taker(&network, &memory, Duration::ZERO).await;
    assert!(node.transfer.fetch(name).await.is_err());
    assert!(!memory.packs.list().unwrap().is_empty(), "there are checkpoints");
    let reclaimed = reclaim(&node.transfer, &[]).await;
    assert_eq!(reclaimed.expires_in, None);
    assert_exact(&node.transfer, &*memory.packs, &[]).await;
}
