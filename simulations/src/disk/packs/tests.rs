//! The simulated pack disk keeps the contract and loses what a power cut may take.

use std::collections::BTreeSet;

use super::*;

fn disk(seed: u64) -> SimPacks {
    SimPacks {
        core: PacksCore::new(seed, "test"),
        power: Arc::new(Power::new(None)),
        faults: DiskFaults::none(),
    }
}

/// Another life on the same platter.
fn next_life(disk: &SimPacks) -> SimPacks {
    SimPacks { power: Arc::new(Power::new(None)), ..disk.clone() }
}

fn bytes(disk: &SimPacks, pack: PackId) -> Vec<u8> {
    let file = disk.open(pack).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// The simulated disk breaks everything but the contract; as long as nothing fails, it keeps that.
#[tokio::test(start_paused = true)]
async fn the_disk_keeps_the_contract_while_power_is_on() {
    peerglass_transfer::disk::contract::check(Arc::new(disk(1))).await;
}

/// F-D1, F-D2: synced bytes survive unchanged, each page behind them is kept, lost or damaged.
#[tokio::test(start_paused = true)]
async fn a_power_cut_damages_only_what_was_not_synced() {
    let (mut whole, mut damaged) = (0, 0);
    for seed in 0..40 {
        let disk = disk(seed);
        let file = disk.create(PackId(1)).unwrap();
        disk.sync_directory().await.unwrap();
        file.append(&[1; 5_000]).unwrap();
        file.sync().await.unwrap();
        file.append(&[2; 20_000]).unwrap();
        disk.power.switch_off();
        disk.edit().lose_power(&disk.faults);
        file.append(b"from a dead process").unwrap();
        let after = bytes(&next_life(&disk), PackId(1));
        assert_eq!(after[..5_000], [1; 5_000]);
        assert!(after.len() <= 25_000);
        if after[5_000..] == [2; 20_000] { whole += 1 } else { damaged += 1 }
    }
    assert!(damaged > 20 && whole < 20, "whole {whole}, damaged {damaged}");
}

/// F-D3: without a sync of the directory, a create and a remove may each be undone.
#[tokio::test(start_paused = true)]
async fn unsynced_creates_and_removes_may_be_undone() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let disk = disk(seed);
        disk.create(PackId(1)).unwrap();
        disk.sync_directory().await.unwrap();
        disk.create(PackId(2)).unwrap();
        disk.remove(PackId(1)).unwrap();
        disk.edit().lose_power(&disk.faults);
        seen.insert(disk.list().unwrap().iter().map(|(pack, _)| pack.0).collect::<Vec<_>>());
    }
    assert_eq!(seen, BTreeSet::from([vec![], vec![1], vec![2], vec![1, 2]]));
}

/// F-P1: a killed process leaves its unsynced writes to the cache, and a later power cut takes them.
#[tokio::test(start_paused = true)]
async fn a_kill_keeps_the_cache() {
    let disk = disk(3);
    let file = disk.create(PackId(1)).unwrap();
    file.append(&[7; 9_000]).unwrap();
    disk.power.switch_off();
    file.append(&[8; 10]).unwrap();
    disk.edit().lose_process();
    let next = next_life(&disk);
    assert_eq!(bytes(&next, PackId(1)), [7; 9_000]);
    next.open(PackId(1)).unwrap().sync().await.unwrap();
    next.sync_directory().await.unwrap();
    next.edit().lose_power(&next.faults);
    assert_eq!(bytes(&next_life(&next), PackId(1)), [7; 9_000]);
}

/// F-D8: a full disk takes what fits and says so; it works again when there is room.
#[test]
fn a_full_disk_says_so() {
    let disk = disk(1);
    disk.faults.limit_packs(10);
    let file = disk.create(PackId(1)).unwrap();
    let full = file.append(&[1; 11]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    disk.faults.limit_packs(u64::MAX);
    file.append(&[1; 11]).unwrap();
}
