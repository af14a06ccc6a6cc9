//! A crash at every step that reaches the disk: nothing acknowledged is lost, nothing is leaked
//! (F-P1, F-P2, F-P4, F-D1 to F-D5, F-D8; I-D1, I-D6).

use std::io;

use peerglass_catalog::ManifestRoot;
use peerglass_transfer::{PackDisk, Transfer, Workers};

use crate::bodies::noise;
use crate::world::faulty::{FaultyDisk, Fuse};
use crate::world::{assert_exact, open, read, reclaim, root, store};

/// A script's images. They share a middle part; the last has holes.
fn images() -> [Vec<u8>; 3] {
    let shared = noise(1, 160_000);
    let first = [noise(2, 50_000), shared.clone()].concat();
    let second = [shared.clone(), noise(3, 40_000)].concat();
    let third = [vec![0; 40_000], shared[60_000..].to_vec(), vec![0; 20_000], noise(4, 20_000)].concat();
    [first, second, third]
}

/// Which images were acknowledged and are named, and what was stored under which name.
#[derive(Default)]
struct Oracle {
    named: Vec<(usize, ManifestRoot)>,
}

impl Oracle {
    fn roots(&self) -> Vec<ManifestRoot> {
        self.named.iter().map(|(_, root)| *root).collect()
    }
}

/// Upload, delete and reclaim until the disk fails.
async fn script(transfer: &Transfer, oracle: &mut Oracle) -> Option<()> {
    let images = images();
    for (number, image) in images.iter().enumerate() {
        let stored = store(transfer, image).await.ok()?;
        oracle.named.push((number, root(&stored)));
    }
    // The first image is deleted; the chunks it shares with the others must stay.
    oracle.named.remove(0);
    try_reclaim(transfer, oracle).await?;
    oracle.named.clear();
    try_reclaim(transfer, oracle).await?;
    let stored = store(transfer, &images[1]).await.ok()?;
    oracle.named.push((1, root(&stored)));
    let stored = store(transfer, &images[0]).await.ok()?;
    oracle.named.push((0, root(&stored)));
    try_reclaim(transfer, oracle).await
}

async fn try_reclaim(transfer: &Transfer, oracle: &Oracle) -> Option<()> {
    let named = oracle.roots();
    let are_named = |roots: Vec<_>| {
        std::future::ready(Ok::<_, io::Error>(roots.iter().map(|root| named.contains(root)).collect()))
    };
    transfer.reclaim(are_named).await.ok().map(drop)
}

/// Every named image reads back, and after reclaim nothing else is there.
async fn settle(transfer: &Transfer, packs: &dyn PackDisk, oracle: &Oracle, when: &str) {
    let images = images();
    for (number, root) in &oracle.named {
        let image = &images[*number];
        let got = read(transfer, *root, 0..image.len() as u64).await;
        assert!(got.is_ok_and(|got| got == *image), "{when}: acknowledged image {number} is lost");
    }
    reclaim(transfer, &oracle.roots()).await;
    let named: Vec<&[u8]> = oracle.named.iter().map(|(number, _)| &images[*number][..]).collect();
    assert_exact(transfer, packs, &named).await;
    for (number, root) in &oracle.named {
        let image = &images[*number];
        let got = read(transfer, *root, 0..image.len() as u64).await;
        assert!(got.is_ok_and(|got| got == *image), "{when}: reclaim took image {number}");
    }
}

/// Small and seeded; only has to spread.
pub(crate) fn chance(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    }
}

async fn script_length() -> usize {
    let disk = FaultyDisk::new(Fuse::Safe);
    let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
    let mut oracle = Oracle::default();
    assert!(script(&transfer, &mut oracle).await.is_some(), "the script runs on a sound disk");
    settle(&transfer, &disk, &oracle, "without a fault").await;
    disk.steps_taken()
}

#[tokio::test]
async fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    for at in 0..script_length().await {
        for seed in 0..3 {
            let disk = FaultyDisk::new(Fuse::Dead { at });
            let mut oracle = Oracle::default();
            if let Ok(transfer) = open(disk.disk(), Workers::Inline).await {
                let _ = script(&transfer, &mut oracle).await;
            }
            let mut chance = chance(seed * 1000 + at as u64 + 1);
            // Off again during recovery, once (F-P2).
            let dead = chance(30);
            let disk = disk.after_power_cut(&mut chance, Fuse::Dead { at: dead });
            drop(open(disk.disk(), Workers::Inline).await);
            let disk = disk.after_power_cut(&mut chance, Fuse::Safe);
            let when = format!("power cut at step {at}, seed {seed}");
            let transfer = open(disk.disk(), Workers::Inline).await;
            let transfer = transfer.unwrap_or_else(|error| panic!("{when}: {error}"));
            settle(&transfer, &disk, &oracle, &when).await;
        }
    }
}

#[tokio::test]
async fn the_index_is_rebuilt_from_the_packs_alone() {
    for at in (0..script_length().await).step_by(5) {
        let disk = FaultyDisk::new(Fuse::Dead { at });
        let mut oracle = Oracle::default();
        if let Ok(transfer) = open(disk.disk(), Workers::Inline).await {
            let _ = script(&transfer, &mut oracle).await;
        }
        let disk = disk.after_power_cut(chance(at as u64 + 1), Fuse::Safe);
        let bare = peerglass_transfer::TransferDisk {
            index: std::sync::Arc::new(peerglass_catalog::MemoryKeyspace::new()),
            ..disk.disk()
        };
        let transfer = open(bare, Workers::Inline).await.unwrap();
        settle(&transfer, &disk, &oracle, &format!("index lost at step {at}")).await;
    }
}

/// One failed step, a full disk included, fails one operation and leaves nothing behind.
#[tokio::test]
async fn one_error_at_any_step_leaks_nothing() {
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        for at in 0..script_length().await {
            let disk = FaultyDisk::new(Fuse::Safe);
            let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
            disk.rewire(Fuse::Once { at, kind });
            let mut oracle = Oracle::default();
            let _ = script(&transfer, &mut oracle).await;
            disk.rewire(Fuse::Safe);
            drop(transfer);
            let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
            settle(&transfer, &disk, &oracle, &format!("{kind:?} at step {at}")).await;
        }
    }
}
