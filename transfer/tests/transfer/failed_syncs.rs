//! A sync that fails is final for what it covered, and the number of a pack is used once (F-D3, F-D5; I-D1,
//! I-L1).

use std::collections::BTreeSet;
use std::io;

use futures::StreamExt;
use peerglass_catalog::ManifestRoot;
use peerglass_transfer::{PackDisk, PackId, Workers};

use crate::bodies::{noise, stream_of};
use crate::world::faulty::{FaultyDisk, Fuse};
use crate::world::{ORDER, open, read, reclaim, root, store};

/// What a power cut does to what is not synced: all of it is gone, or as much is there as can be.
const CUTS: [fn(usize) -> usize; 2] = [|below| below - 1, |_| 0];

fn numbers(disk: &FaultyDisk) -> BTreeSet<PackId> {
    disk.list().unwrap().into_iter().map(|(pack, _)| pack).collect()
}

async fn assert_reads(disk: &FaultyDisk, named: &[(ManifestRoot, &[u8])], when: &str) {
    let transfer = open(disk.disk(), Workers::Inline).await;
    let transfer = transfer.unwrap_or_else(|error| panic!("{when}: {error}"));
    for (name, image) in named {
        let got = read(&transfer, *name, 0..image.len() as u64).await;
        assert!(got.is_ok_and(|got| got == *image), "{when}: an acknowledged image is lost");
    }
}

/// A disk from whose only pack everything was dropped.
async fn emptied() -> (FaultyDisk, BTreeSet<PackId>) {
    let disk = FaultyDisk::new(Fuse::Safe);
    let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
    drop(store(&transfer, &noise(1, 50_000)).await.unwrap());
    let used = numbers(&disk);
    reclaim(&transfer, &[]).await;
    assert_eq!(numbers(&disk), BTreeSet::new());
    (disk, used)
}

#[tokio::test]
async fn the_number_of_a_removed_pack_is_not_used_by_a_later_process() {
    let (disk, used) = emptied().await;
    let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
    drop(store(&transfer, &noise(2, 60_000)).await.unwrap());
    assert_eq!(numbers(&disk).intersection(&used).count(), 0);
}

/// The record of a removed pack comes back in a power cut, beside what a later process was writing.
#[tokio::test]
async fn a_record_that_comes_back_meets_no_other_pack() {
    for at in 0..40 {
        for cut in CUTS {
            let (disk, _) = emptied().await;
            disk.rewire(Fuse::Dead { at });
            if let Ok(transfer) = open(disk.disk(), Workers::Inline).await {
                drop(store(&transfer, &noise(2, 60_000)).await);
            }
            let mut files_stay = |below| if below == 2 { 0 } else { cut(below) };
            let disk = disk.after_power_cut(&mut files_stay, Fuse::Safe);
            assert_reads(&disk, &[], &format!("power cut at step {at}")).await;
        }
    }
}

/// One upload is told that the directory failed to sync; the pack of another was in it as well.
#[tokio::test]
async fn a_failed_sync_is_final_for_the_packs_of_other_uploads() {
    let slow = noise(1, 3 << 20);
    let quick = noise(2, 60_000);
    let mut refused = 0;
    for at in 0..30 {
        let disk = FaultyDisk::new(Fuse::Safe);
        let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
        let mut named: Vec<(ManifestRoot, &[u8])> = Vec::new();
        let mut frames = stream_of(&slow, 2 << 20);
        let (start, rest) = (frames.next().await.unwrap(), frames.next().await.unwrap());
        let meanwhile = async {
            assert_eq!(numbers(&disk).len(), 1, "the pack of the slow upload has begun");
            disk.rewire(Fuse::Once { at, kind: io::ErrorKind::Other });
            let stored = store(&transfer, &quick).await.ok();
            disk.rewire(Fuse::Safe);
            named.extend(stored.map(|stored| (root(&stored), &quick[..])));
            rest
        };
        let body = futures::stream::iter([start]).chain(futures::stream::once(Box::pin(meanwhile)));
        let stored = transfer.upload(ORDER, Box::pin(body)).await.ok();
        refused += usize::from(stored.is_none());
        named.extend(stored.map(|stored| (root(&stored), &slow[..])));
        for cut in CUTS {
            let disk = disk.after_power_cut(cut, Fuse::Safe);
            assert_reads(&disk, &named, &format!("step {at} failed")).await;
        }
    }
    // The sync of the directory, that of the index, and its six writes.
    assert_eq!(refused, 8, "the slow upload falls with the directory and with the index, and never else");
}

/// A process is killed in an upload, after a sync failed perhaps; what it wrote is in the cache. The next
/// one is given the same bytes, and then power fails.
#[tokio::test]
async fn what_a_killed_process_left_is_not_built_on() {
    let image = noise(1, 60_000);
    for at in 0..30 {
        for cut in CUTS {
            let disk = FaultyDisk::new(Fuse::Dead { at });
            if let Ok(transfer) = open(disk.disk(), Workers::Inline).await {
                drop(store(&transfer, &image).await);
            }
            disk.rewire(Fuse::Safe);
            let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
            let name = root(&store(&transfer, &image).await.unwrap());
            let disk = disk.after_power_cut(cut, Fuse::Safe);
            assert_reads(&disk, &[(name, &image)], &format!("killed at step {at}")).await;
        }
    }
}
