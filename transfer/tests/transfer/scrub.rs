//! Damage is found while nobody reads, and made good by peers (F-D6; I-D8).

use std::time::Duration;

use peerglass_transfer::{PackDisk, Scrubbed, Workers};
use tokio::time::Instant;

use crate::bodies::noise;
use crate::world::cluster::{Network, nodes};
use crate::world::{Memory, read, reclaim, root, store};

const RATE: u64 = 1 << 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_is_found_and_mended_by_peers() {
    let nodes = nodes(&Network::new(), 2, Workers::Threads).await;
    let image = noise(1, 3 << 20);
    let size = image.len() as u64;
    let name = root(&store(&nodes[0].transfer, &image).await.unwrap());
    nodes[1].transfer.fetch(name).await.unwrap();
    let (pack, len) = nodes[1].memory.packs.list().unwrap()[0];
    // A chunk in the middle, and among the pages and the root, which are at the end.
    for at in [len as usize / 2, len as usize - 5_000] {
        let mut bytes = nodes[1].memory.packs.bytes(pack).unwrap();
        bytes[at] ^= 4;
        nodes[1].memory.packs.overwrite(pack, bytes);
    }
    let scrubbed = nodes[1].transfer.scrub_next(RATE).await.unwrap().unwrap();
    assert_eq!(scrubbed.manifest, name);
    assert!((1..=2).contains(&scrubbed.damaged), "{scrubbed:?}");
    assert_eq!(nodes[1].transfer.scrub_next(RATE).await.unwrap(), None, "there is no other");
    nodes[1].transfer.fetch(name).await.unwrap();
    let scrubbed = nodes[1].transfer.scrub_next(RATE).await.unwrap().unwrap();
    assert_eq!(scrubbed.damaged, 0, "it is whole again");
    assert!(scrubbed.bytes >= size);
    nodes[0].kill();
    assert!(read(&nodes[1].transfer, name, 0..size).await.unwrap() == image);
    reclaim(&nodes[1].transfer, &[name]).await;
}

/// Every manifest once, in a row that a restart does not begin again, at the rate that was asked for.
#[tokio::test(start_paused = true)]
async fn each_is_read_in_turn_slowly_and_a_restart_goes_on() {
    let memory = Memory::new();
    let transfer = memory.open(Workers::Inline).await;
    let mut names = Vec::new();
    for seed in 0..3 {
        names.push(root(&store(&transfer, &noise(seed, 1 << 20)).await.unwrap()));
    }
    names.sort_unstable();
    let next = async |transfer: &peerglass_transfer::Transfer| transfer.scrub_next(1 << 18).await.unwrap();
    let began = Instant::now();
    let first = next(&transfer).await.unwrap();
    assert_eq!((first.manifest, first.damaged), (names[0], 0));
    assert!(began.elapsed() >= Duration::from_secs(4), "a mebibyte at a quarter a second");
    transfer.stop().await;
    let transfer = memory.open(Workers::Inline).await;
    let rest = [next(&transfer).await, next(&transfer).await];
    assert_eq!(rest.map(|scrubbed: Option<Scrubbed>| scrubbed.unwrap().manifest), [names[1], names[2]]);
    assert_eq!(next(&transfer).await, None);
    assert_eq!(next(&transfer).await.unwrap().manifest, names[0], "and over again");
}
