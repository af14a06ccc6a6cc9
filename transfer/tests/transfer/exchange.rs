//! Bytes between nodes that behave: pulled, held for others, deduplicated, reclaimed.

use std::future::Future;

use futures::{StreamExt, future};
use peerglass_catalog::manifest::{Builder, Entry};
use peerglass_catalog::{Digest, NodeId};
use peerglass_transfer::{DownloadError, PackDisk, ReplicateError, Workers};

use crate::bodies::{noise, text};
use crate::world::cluster::{Network, Node, nodes};
use crate::world::{assert_exact, read, reclaim, root, store};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_has_another_serves_and_keeps() {
    let ways = [
        (Network::new(), Workers::Inline),
        (Network::new(), Workers::Threads),
        (Network::of_tcp(), Workers::Inline),
        (Network::of_tcp(), Workers::Threads),
    ];
    for (network, workers) in ways {
        let nodes = nodes(&network, 3, workers).await;
        let mut image = noise(1, 5 * MIB);
        image[MIB..3 * MIB].fill(0);
        let size = image.len() as u64;
        let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
        assert!(read(&nodes[1].transfer, name, 0..size).await.unwrap() == image);
        settled(&nodes[1]).await;
        // Now there are two, and the first may go.
        nodes[0].kill();
        assert!(read(&nodes[2].transfer, name, 0..size).await.unwrap() == image);
        settled(&nodes[2]).await;
        for node in &nodes[1..] {
            assert_exact(&node.transfer, &*node.memory.packs, &[&image]).await;
            reclaim(&node.transfer, &[name]).await;
            assert_exact(&node.transfer, &*node.memory.packs, &[&image]).await;
            node.kill();
            assert!(read(&node.transfer, name, 0..size).await.unwrap() == image, "from its own disk");
            reclaim(&node.transfer, &[]).await;
            assert_eq!(node.memory.packs.list().unwrap(), [], "nothing is named, nothing is left");
        }
    }
}

/// Compressed once, where the client brought it: what the second gives is what the first gave.
#[tokio::test]
async fn a_compressible_image_travels_as_it_is_stored() {
    for workers in [Workers::Inline, Workers::Threads] {
        let nodes = nodes(&Network::new(), 3, workers).await;
        let image = [text(1, 6 * MIB), vec![0; MIB], vec![7; MIB], text(2, MIB)].concat();
        let size = image.len() as u64;
        let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
        for at in [1, 2] {
            let node = &nodes[at];
            assert!(read(&node.transfer, name, 0..size).await.unwrap() == image);
            settled(node).await;
            let received = node.peers.received_bytes().await;
            assert!(received < size * 60 / 100, "{received} bytes for an image of {size}");
            assert_exact(&node.transfer, &*node.memory.packs, &[&image]).await;
            nodes[at - 1].kill();
            assert!(read(&node.transfer, name, 0..size).await.unwrap() == image, "from its own disk");
        }
    }
}

/// A page of one image is a chunk of another, which came first and is kept compressed. Pages travel plain.
#[tokio::test]
async fn a_page_that_is_kept_as_a_chunk_is_given_as_a_page() {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let (giver, taker) = (&nodes[0].transfer, &nodes[1].transfer);
    const CHUNK: usize = 256 << 10;
    let image = vec![7; 16 * MIB];
    let mut builder = Builder::new();
    for chunk in image.chunks(CHUNK) {
        let (digest, len) = (Digest::of(chunk), CHUNK as u32);
        assert!(builder.push(Entry::Chunk { digest, plain_len: len, stored_len: len }).unwrap().is_none());
    }
    let page = builder.finish().unwrap().unwrap().encode();
    let name_of_page = root(&store(giver, &page).await.unwrap());
    assert!(giver.usage().stored_bytes < page.len() as u64, "it is compressed");
    let name = root(&store(giver, &image).await.unwrap());
    assert_eq!(giver.usage().chunks, 5, "two roots, a page, a chunk, and once what is both");
    for transfer in [giver, taker] {
        assert!(read(transfer, name, 0..image.len() as u64).await.unwrap() == image);
        assert!(read(transfer, name_of_page, 0..page.len() as u64).await.unwrap() == page);
    }
}

/// Wait until nothing is being pulled. What a download yields may be read before its pull is durable.
pub(crate) async fn settled(node: &Node) {
    until(|| node.transfer.usage().pulls == 0).await;
}

/// Wait for something that another task brings about.
async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_empty_image_and_an_image_of_holes_cross_as_well() {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    for image in [vec![], vec![0; 300_000]] {
        let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
        let size = image.len() as u64;
        assert!(read(&nodes[1].transfer, name, 0..size).await.unwrap() == image);
        assert_eq!(nodes[0].transfer.replicate(name, 1, &[]).await.unwrap(), [nodes[1].id]);
    }
}

#[tokio::test]
async fn an_updated_image_fetches_its_difference() {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let old = noise(1, 8 * MIB);
    let new = [&old[..3 * MIB], &noise(2, 200_000), &old[3 * MIB..]].concat();
    let (taker, giver) = (&nodes[1], &nodes[0]);
    let names = [
        root(&store(&giver.transfer, &old).await.unwrap()),
        root(&store(&giver.transfer, &new).await.unwrap()),
    ];
    assert!(read(&taker.transfer, names[0], 0..old.len() as u64).await.unwrap() == old);
    settled(taker).await;
    let before = taker.peers.received_bytes().await;
    assert!(before > old.len() as u64);
    assert!(read(&taker.transfer, names[1], 0..new.len() as u64).await.unwrap() == new);
    settled(taker).await;
    let difference = taker.peers.received_bytes().await - before;
    assert!((200_000..1_000_000).contains(&difference), "{difference} bytes for 200 000 new ones");
    reclaim(&taker.transfer, &names).await;
    assert_exact(&taker.transfer, &*taker.memory.packs, &[&old, &new]).await;
}

#[tokio::test]
async fn many_downloads_of_a_cold_image_are_one_pull() {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let image = noise(1, 6 * MIB);
    let size = image.len() as u64;
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    let downloads = (0..100).map(|_| read(&nodes[1].transfer, name, 0..size));
    let got = future::join_all(downloads).await;
    assert!(got.into_iter().all(|got| got.unwrap() == image));
    settled(&nodes[1]).await;
    let received = nodes[1].peers.received_bytes().await;
    assert!(received < size * 5 / 4, "{received} bytes for an image of {size}");
    assert_exact(&nodes[1].transfer, &*nodes[1].memory.packs, &[&image]).await;
}

#[tokio::test]
async fn a_range_on_a_cold_node_is_what_it_is_elsewhere() {
    let network = Network::new();
    let giver = Node::start(&network, 1, &[], Workers::Inline).await;
    // More than one page, so that the pull begins in the middle.
    let mut image = noise(1, 90 * MIB);
    image[4_000_000..5_000_000].fill(0);
    let size = image.len() as u64;
    let name = root(&store(&giver.transfer, &image).await.unwrap());
    let ranges = [size - 1000..size, 80_000_000..83_000_000, 3_999_999..5_000_001, 7..7, 0..1];
    for range in ranges {
        let taker = Node::start(&network, 2, &[1], Workers::Inline).await;
        let got = read(&taker.transfer, name, range.clone()).await.unwrap();
        assert!(got == image[range.start as usize..range.end as usize], "{range:?}");
        let past = read(&taker.transfer, name, 0..size + 1).await;
        assert!(matches!(past, Err(DownloadError::OutOfRange { size: told }) if told == size));
        settled(&taker).await;
        assert!(read(&taker.transfer, name, 0..size).await.unwrap() == image, "the pull brought the rest");
        taker.transfer.stop().await;
    }
}

/// A client does not wait for the last byte to get the first.
#[tokio::test]
async fn a_cold_download_streams_while_the_pull_goes_on() {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let image = noise(1, 60 * MIB);
    let size = image.len() as u64;
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    let mut download = nodes[1].transfer.download(name, 0..size).await.unwrap();
    let first = download.next().await.unwrap().unwrap();
    assert!(nodes[1].transfer.usage().pulls == 1, "the pull was over before the first byte was given out");
    let mut got = first.to_vec();
    while let Some(piece) = download.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert!(got == image);
}

/// A range far from where the pull is does not wait for everything in between.
#[tokio::test]
async fn a_far_range_does_not_wait_for_the_pull_to_come_by() {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let image = noise(1, 300 * MIB);
    let size = image.len() as u64;
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    let mut download = nodes[1].transfer.download(name, 0..size).await.unwrap();
    drop(download.next().await.unwrap().unwrap());
    let far = read(&nodes[1].transfer, name, size - 100_000..size).await.unwrap();
    assert!(far == image[image.len() - 100_000..]);
    assert_eq!(nodes[1].transfer.usage().pulls, 1, "the pull was over first");
    nodes[1].transfer.stop().await;
}

#[tokio::test]
async fn copies_are_durable_where_they_are_said_to_be() {
    let nodes = nodes(&Network::new(), 3, Workers::Inline).await;
    let image = noise(1, 3 * MIB);
    let stored = store(&nodes[0].transfer, &image).await.unwrap();
    let name = root(&stored);
    assert_eq!(nodes[0].transfer.replicate(name, 0, &[]).await.unwrap(), []);
    assert_eq!(nodes[0].transfer.replicate(name, 1, &[]).await.unwrap(), [NodeId(2)]);
    assert_exact(&nodes[1].transfer, &*nodes[1].memory.packs, &[&image]).await;
    let mut both = nodes[0].transfer.replicate(name, 2, &[]).await.unwrap();
    both.sort_unstable();
    assert_eq!(both, [NodeId(2), NodeId(3)]);
    nodes[0].kill();
    for node in &nodes[1..] {
        node.peers.candidates.lock().unwrap().clear();
        assert!(read(&node.transfer, name, 0..image.len() as u64).await.unwrap() == image);
    }
}

/// Callers spawn them, or hold them in a request's future.
#[tokio::test]
async fn what_is_asked_of_a_transfer_can_move_between_threads() {
    fn can_move<T: Send>(_: &T) {}
    let nodes = nodes(&Network::new(), 1, Workers::Inline).await;
    let name = root(&store(&nodes[0].transfer, b"x").await.unwrap());
    can_move(&nodes[0].transfer.replicate(name, 1, &[]));
    can_move(&nodes[0].transfer.download(name, 0..1));
    can_move(&nodes[0].transfer.stop());
}

#[tokio::test]
async fn too_few_nodes_for_the_copies_is_an_error_with_the_count() {
    let nodes = nodes(&Network::new(), 4, Workers::Inline).await;
    let name = root(&store(&nodes[0].transfer, &noise(1, MIB)).await.unwrap());
    nodes[1].kill();
    nodes[2].transfer.stop().await;
    let refused = nodes[0].transfer.replicate(name, 2, &[]).await;
    assert!(matches!(refused, Err(ReplicateError::NotEnough { wanted: 2, got: 1 })), "{refused:?}");
    let missing =
        nodes[3].transfer.replicate(root(&store(&nodes[0].transfer, b"x").await.unwrap()), 1, &[]).await;
    assert!(matches!(missing, Err(ReplicateError::Here(DownloadError::Missing(_)))), "{missing:?}");
}

#[tokio::test]
async fn what_nobody_has_is_missing() {
    let nodes = nodes(&Network::new(), 3, Workers::Inline).await;
    let name = root(&store(&nodes[0].transfer, &noise(1, MIB)).await.unwrap());
    nodes[0].kill();
    let missing = read(&nodes[1].transfer, name, 0..1).await;
    assert!(matches!(missing, Err(DownloadError::Missing(root)) if root == name), "{missing:?}");
    assert_eq!(nodes[1].memory.packs.list().unwrap(), []);
}

/// Reclaim runs all the time while a node pulls, and everything it asks about is named by nobody.
#[tokio::test]
async fn reclaim_takes_nothing_from_a_pull() {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let shared = noise(1, 4 * MIB);
    let image = [shared.clone(), noise(2, 4 * MIB)].concat();
    drop(store(&nodes[1].transfer, &shared).await.unwrap());
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    let pull = read(&nodes[1].transfer, name, 0..image.len() as u64);
    let reclaims = async {
        loop {
            reclaim(&nodes[1].transfer, &[]).await;
            tokio::task::yield_now().await;
        }
    };
    assert!(first(pull, reclaims).await.unwrap() == image);
    settled(&nodes[1]).await;
    reclaim(&nodes[1].transfer, &[]).await;
    assert_eq!(nodes[1].memory.packs.list().unwrap(), []);
}

/// What `wanted` comes to, while `other` goes on.
async fn first<T>(wanted: impl Future<Output = T>, other: impl Future<Output = ()>) -> T {
    match future::select(Box::pin(wanted), Box::pin(other)).await {
        future::Either::Left((done, _)) => done,
        future::Either::Right(_) => panic!("the other was to go on"),
    }
}

#[tokio::test]
async fn what_is_damaged_here_comes_from_a_peer_and_is_kept() {
    for image in [noise(1, 4 * MIB), text(1, 4 * MIB)] {
        heals(&image).await;
    }
}

async fn heals(image: &[u8]) {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let size = image.len() as u64;
    let name = root(&store(&nodes[0].transfer, image).await.unwrap());
    assert_eq!(nodes[0].transfer.replicate(name, 1, &[]).await.unwrap(), [NodeId(2)]);
    let packs = &nodes[1].memory.packs;
    let (pack, _) = packs.list().unwrap()[0];
    // A chunk, and the root, which a pull writes first, behind the header.
    let mut bytes = packs.bytes(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes[16 + 1] ^= 1;
    packs.overwrite(pack, bytes);
    // The first read may find the chunk only after the pull that it began for the root.
    for _ in 0..2 {
        assert!(read(&nodes[1].transfer, name, 0..size).await.unwrap() == image);
        settled(&nodes[1]).await;
    }
    nodes[1].peers.candidates.lock().unwrap().clear();
    assert!(read(&nodes[1].transfer, name, 0..size).await.unwrap() == image, "it was kept");
    reclaim(&nodes[1].transfer, &[name]).await;
    assert_exact(&nodes[1].transfer, &**packs, &[image]).await;
}

#[tokio::test]
async fn stopping_ends_a_pull_and_leaves_nothing() {
    let nodes = nodes(&Network::new(), 2, Workers::Inline).await;
    let image = noise(1, 40 * MIB);
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    let mut download = nodes[1].transfer.download(name, 0..image.len() as u64).await.unwrap();
    drop(download.next().await.unwrap().unwrap());
    assert_eq!(nodes[1].transfer.usage().pulls, 1);
    nodes[1].transfer.stop().await;
    assert_eq!(nodes[1].transfer.usage().pulls, 0);
    let rest: Vec<_> = download.collect().await;
    assert!(matches!(rest.last(), Some(Err(DownloadError::Stopped))));
    assert_eq!(nodes[1].memory.packs.list().unwrap(), []);
    assert!(matches!(nodes[1].transfer.download(name, 0..1).await, Err(DownloadError::Stopped)));
}
