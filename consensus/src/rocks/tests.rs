//! RocksDB keeps the contract of a keyspace, and notices damage.

use std::fs;

use peerglass_catalog::MemoryKeyspace;
use peerglass_catalog::keyspace::look;
use peerglass_catalog::testing::{Dice, populate};

use super::*;

fn all(read: &dyn Read) -> Vec<(Vec<u8>, Vec<u8>)> {
    read.scan(KeyRange { from: vec![], to: None }, Direction::Ascending).map(Result::unwrap).collect()
}

/// The catalog's tests run on the map in memory; this is why they speak for RocksDB too.
#[test]
fn rocksdb_and_memory_hold_and_list_the_same() {
    for seed in 0..24 {
        let dir = tempfile::tempdir().unwrap();
        let rocks = RocksKeyspace::open(dir.path(), RocksRole::State).unwrap();
        let memory = MemoryKeyspace::new();
        populate(&rocks, seed, 150, 8);
        populate(&memory, seed, 150, 8);
        assert_eq!(all(&rocks), memory.entries());
        let mut dice = Dice(seed);
        for _ in 0..50 {
            let query = dice.query();
            let ask = |keyspace: &dyn Keyspace| {
                look(keyspace, |read| {
                    peerglass_catalog::Catalog::new(read).images(&query).map_err(|error| error.to_string())
                })
            };
            assert_eq!(ask(&rocks), ask(&memory), "{query:?}");
        }
    }
}

#[test]
fn ranges_clear_and_scan_as_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksKeyspace::open(dir.path(), RocksRole::Log).unwrap();
    let memory = MemoryKeyspace::new();
    let mut dice = Dice(3);
    for _ in 0..400 {
        let key =
            |dice: &mut Dice| (0..dice.below(3)).map(|_| dice.pick(&[0, 1, u8::MAX])).collect::<Vec<u8>>();
        let range = |dice: &mut Dice| KeyRange { from: key(dice), to: dice.once_in(3).then(|| key(dice)) };
        let mut batch = Batch::default();
        if dice.once_in(5) {
            batch.clear(range(&mut dice));
        }
        for _ in 0..dice.below(4) {
            let (key, value) = (key(&mut dice), key(&mut dice));
            if dice.once_in(4) { batch.remove(key) } else { batch.put(key, value) }
        }
        rocks.write(batch.clone()).unwrap();
        memory.write(batch).unwrap();
        let range = range(&mut dice);
        for direction in [Direction::Ascending, Direction::Descending] {
            let of = |keyspace: &dyn Keyspace| {
                look(keyspace, |read| {
                    read.scan(range.clone(), direction).map(Result::unwrap).collect::<Vec<_>>()
                })
            };
            assert_eq!(of(&rocks), of(&memory), "{range:?}");
        }
    }
}

/// A database of 200 rows whose write-ahead log was changed by `damage`.
async fn damaged(role: RocksRole, damage: impl FnOnce(&mut [u8])) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksKeyspace::open(dir.path(), role).unwrap();
    for number in 0..200u32 {
        let mut batch = Batch::default();
        batch.put(number.to_be_bytes().to_vec(), vec![7; 500]);
        rocks.write(batch).unwrap();
    }
    rocks.sync().await.unwrap();
    drop(rocks);
    let wal = newest(dir.path(), "log");
    let mut bytes = fs::read(&wal).unwrap();
    damage(&mut bytes);
    fs::write(&wal, bytes).unwrap();
    dir
}

/// F-D6, F-D10, I-S3: damage in the middle of the write-ahead log is not a torn end. What follows it
/// was synced and may have been acknowledged, so opening refuses and names the directory.
#[tokio::test]
async fn damage_inside_the_synced_log_refuses_to_open() {
    for role in [RocksRole::Log, RocksRole::Index] {
        let dir = damaged(role, |bytes| bytes[40_000] ^= 1).await;
        let error = RocksKeyspace::open(dir.path(), role).err().unwrap().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }
}

/// F-D2, F-D3: a power cut may keep a later page of an unsynced log and lose an earlier one. The state goes on
/// from before the hole, with nothing from behind it.
#[tokio::test]
async fn a_hole_in_the_log_of_the_state_sets_it_back() {
    let dir = damaged(RocksRole::State, |bytes| bytes[40_960..45_056].fill(0)).await;
    let rocks = RocksKeyspace::open(dir.path(), RocksRole::State).unwrap();
    let kept = all(&rocks);
    assert!((70..80).contains(&kept.len()), "{} rows", kept.len());
    assert!(
        kept.iter().map(|(key, _)| key.clone()).eq((0..kept.len() as u32).map(|n| n.to_be_bytes().to_vec()))
    );
}

/// F-D2: a torn end is cut off, and everything before it is there.
#[test]
fn a_torn_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksKeyspace::open(dir.path(), RocksRole::Log).unwrap();
    for number in 0..10u8 {
        let mut batch = Batch::default();
        batch.put(vec![number], vec![number; 100]);
        rocks.write(batch).unwrap();
    }
    drop(rocks);
    let wal = newest(dir.path(), "log");
    let bytes = fs::read(&wal).unwrap();
    fs::write(&wal, &bytes[..bytes.len() - 30]).unwrap();
    let rocks = RocksKeyspace::open(dir.path(), RocksRole::Log).unwrap();
    assert_eq!(all(&rocks).len(), 9);
}

/// F-D8: `/dev/full` in the place of the next write-ahead log is a disk without room. Whoever writes learns
/// that, and a sync meanwhile does not take from RocksDB what it needs to go on later: it would from then
/// on say "Writer has previous error".
#[tokio::test]
async fn a_full_disk_is_told_from_a_broken_one_and_survives_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksKeyspace::open(dir.path(), RocksRole::Index).unwrap();
    let put = |key: u8| {
        let mut batch = Batch::default();
        batch.put(vec![key], vec![key; 100]);
        rocks.write(batch)
    };
    put(1).unwrap();
    for number in 0..100 {
        let wal = dir.path().join(format!("{number:06}.log"));
        if !wal.exists() {
            std::os::unix::fs::symlink("/dev/full", wal).unwrap();
        }
    }
    rocks.db.rocks.flush().unwrap();
    let full = |done: Result<(), Fault>| {
        let Err(Fault::Io(error)) = done else { panic!("{done:?}") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    };
    full(put(2));
    for _ in 0..2 {
        full(rocks.sync().await);
        full(put(3));
    }
    assert_eq!(all(&rocks), [(vec![1], vec![1; 100])]);
}

fn newest(dir: &Path, extension: &str) -> std::path::PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let with_bytes = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|found| found == extension) && path.metadata().unwrap().len() > 0
    };
    files.filter(with_bytes).max().unwrap()
}
