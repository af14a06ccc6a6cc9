//! What reclaim cannot drop keeps nothing else on the disk (F-D6, F-D8, F-D10; I-D6).

use std::convert::Infallible;

use peerglass_catalog::ManifestRoot;
use peerglass_transfer::{PackDisk, PackId, Transfer, Workers};

use crate::bodies::noise;
use crate::world::faulty::{FaultyDisk, Fuse};
use crate::world::{Memory, assert_exact, open, read, reclaim, root, store};

/// An image whose pack is shared with a second one, which brings a pack of its own.
struct Pair {
    second: Vec<u8>,
    name: ManifestRoot,
    /// With the first image's part, which is dead once that is deleted.
    shared_pack: PackId,
}

async fn pair(transfer: &Transfer, disk: &dyn PackDisk, seed: u64, lone_bytes: usize) -> Pair {
    let shared = noise(seed, 600_000);
    let first = [shared.clone(), noise(seed + 1, lone_bytes)].concat();
    drop(store(transfer, &first).await.unwrap());
    let shared_pack = disk.list().unwrap().last().unwrap().0;
    let second = [noise(seed + 2, 200_000), shared].concat();
    let name = root(&store(transfer, &second).await.unwrap());
    Pair { second, name, shared_pack }
}

fn has(disk: &dyn PackDisk, pack: PackId) -> bool {
    disk.list().unwrap().iter().any(|(listed, _)| *listed == pack)
}

async fn assert_whole(transfer: &Transfer, pair: &Pair) {
    let got = read(transfer, pair.name, 0..pair.second.len() as u64).await.unwrap();
    assert!(got == pair.second);
}

/// The pack to be rewritten is the older one, so it would be come to first.
#[tokio::test]
async fn a_full_disk_gives_back_what_is_wholly_dead() {
    let disk = FaultyDisk::new(Fuse::Safe);
    let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
    let pair = pair(&transfer, &disk, 1, 500_000).await;
    drop(store(&transfer, &noise(9, 300_000)).await.unwrap());
    let dead_pack = disk.list().unwrap().last().unwrap().0;
    disk.rewire(Fuse::PacksFull);

    let reclaimed = reclaim(&transfer, &[pair.name]).await;

    assert_eq!((reclaimed.manifests, reclaimed.packs, reclaimed.no_room), (2, 1, 1));
    assert!(!has(&disk, dead_pack) && has(&disk, pair.shared_pack));
    assert_whole(&transfer, &pair).await;
    disk.rewire(Fuse::Safe);
    let reclaimed = reclaim(&transfer, &[pair.name]).await;
    assert_eq!((reclaimed.packs, reclaimed.no_room), (1, 0), "there is room again");
    assert_exact(&transfer, &disk, &[&pair.second]).await;
}

/// Full at any write, the index's own among them: the next reclaim does what is left of it.
#[tokio::test]
async fn a_reclaim_that_ran_out_of_room_is_made_up_for() {
    for at in 0.. {
        let disk = FaultyDisk::new(Fuse::Safe);
        let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
        let kept = store(&transfer, &noise(1, 100_000)).await.unwrap();
        drop(store(&transfer, &noise(2, 300_000)).await.unwrap());
        disk.rewire(Fuse::Full { at });
        let none_is_named = |roots: Vec<_>| std::future::ready(Ok::<_, Infallible>(vec![false; roots.len()]));
        let hindered = transfer.reclaim(none_is_named).await.is_err();
        disk.rewire(Fuse::Safe);
        reclaim(&transfer, &[]).await;
        assert_exact(&transfer, &disk, &[&noise(1, 100_000)]).await;
        drop(kept);
        if !hindered {
            assert!(at > 3, "there are several writes to fail");
            return;
        }
    }
}

/// Whichever comes first: the damaged one is neither the first nor the last in any order.
#[tokio::test]
async fn a_damaged_or_vanished_pack_keeps_no_other() {
    for vanishes in [false, true] {
        let memory = Memory::new();
        let transfer = memory.open(Workers::Inline).await;
        // The share that is dead, and so the order, is different each time.
        let pairs = [
            pair(&transfer, &*memory.packs, 10, 300_000).await,
            pair(&transfer, &*memory.packs, 20, 600_000).await,
            pair(&transfer, &*memory.packs, 30, 900_000).await,
        ];
        let damaged = pairs[1].shared_pack;
        let whole = memory.packs.bytes(damaged).unwrap();
        match vanishes {
            true => memory.packs.remove(damaged).unwrap(),
            false => memory.packs.overwrite(damaged, whole[..whole.len() - 1].to_vec()),
        }
        let names = pairs.each_ref().map(|pair| pair.name);

        let reclaimed = reclaim(&transfer, &names).await;

        assert_eq!((reclaimed.manifests, reclaimed.packs, reclaimed.no_room), (3, 2, 0));
        assert!(!has(&*memory.packs, pairs[0].shared_pack) && !has(&*memory.packs, pairs[2].shared_pack));
        assert_whole(&transfer, &pairs[0]).await;
        memory.packs.overwrite(damaged, whole);
        assert_eq!(reclaim(&transfer, &names).await.packs, 1, "the file was restored");
        let seconds = pairs.each_ref().map(|pair| &pair.second[..]);
        assert_exact(&transfer, &*memory.packs, &seconds).await;
    }
}

/// An upload failed half-way into the index, and then its pack went.
#[tokio::test]
async fn an_unfinished_pack_that_is_gone_keeps_no_other() {
    let (dead, big) = (noise(1, 200_000), noise(2, 2_500_000));
    let mut unfinished = 0;
    for at in 0.. {
        let disk = FaultyDisk::new(Fuse::Safe);
        let transfer = open(disk.disk(), Workers::Inline).await.unwrap();
        drop(store(&transfer, &dead).await.unwrap());
        let dead_pack = disk.list().unwrap()[0].0;
        disk.rewire(Fuse::Full { at });
        let refused = store(&transfer, &big).await.is_err();
        disk.rewire(Fuse::Safe);
        for (pack, _) in disk.list().unwrap().into_iter().filter(|(pack, _)| *pack != dead_pack) {
            disk.remove(pack).unwrap();
            unfinished += usize::from(refused);
        }
        reclaim(&transfer, &[]).await;
        assert!(!has(&disk, dead_pack), "full at write {at}");
        drop(transfer);
        let transfer = open(disk.disk(), Workers::Inline).await.expect("it starts");
        let again = store(&transfer, &big).await.unwrap();
        assert!(read(&transfer, root(&again), 0..2_500_000).await.unwrap() == big);
        drop(again);
        reclaim(&transfer, &[]).await;
        assert_exact(&transfer, &disk, &[]).await;
        if !refused {
            assert!(unfinished > 2, "some uploads left a pack");
            return;
        }
    }
}
