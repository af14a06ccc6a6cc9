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

/// Two rows and an index entry are written together, over and over, while views read them in any order:
/// whatever is kept of earlier reads, each view has to find one state.
#[test]
fn a_view_reads_one_state_while_rows_are_kept_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let rocks = RocksKeyspace::open(dir.path(), RocksRole::State).unwrap();
    let write = |state: u64| {
        let mut batch = Batch::default();
        if state.is_multiple_of(50) {
            batch.clear(KeyRange::prefix(b"r"));
        }
        for name in ["r1", "r2", "r3"] {
            batch.put(name.into(), state.to_be_bytes().to_vec());
        }
        // One row comes and goes.
        if state.is_multiple_of(3) {
            batch.remove(b"r2".to_vec());
        }
        batch.put([&b"x"[..], &state.to_be_bytes()].concat(), Vec::new());
        batch.remove([&b"x"[..], &(state - 1).to_be_bytes()].concat());
        rocks.write(batch).unwrap();
    };
    write(1);
    let done = AtomicBool::new(false);
    let read = || {
        let mut views = 0;
        while !done.load(Ordering::Acquire) || views == 0 {
            look(&rocks, |read| {
                let row = |name: &str| {
                    let row = read.get(name.as_bytes()).unwrap()?;
                    Some(u64::from_be_bytes(row.try_into().unwrap()))
                };
                let entry = |read: &dyn Read| {
                    let entries: Vec<_> =
                        read.scan(KeyRange::prefix(b"x"), Direction::Ascending).map(Result::unwrap).collect();
                    assert_eq!(entries.len(), 1);
                    u64::from_be_bytes(entries[0].0[1..].try_into().unwrap())
                };
                let state = row("r1").unwrap();
                assert_eq!(entry(read), state);
                assert_eq!(row("r2"), (!state.is_multiple_of(3)).then_some(state));
                assert_eq!(row("r3"), Some(state));
                // Once more, when it is kept.
                assert_eq!(row("r1"), Some(state));
            });
            views += 1;
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(read);
        }
        for state in 2..20_000 {
            write(state);
        }
        done.store(true, Ordering::Release);
    });
}

/// The same rules one by one, in the order in which each is needed.
#[test]
fn a_kept_row_is_for_views_that_were_made_after_it_and_before_it_was_written_again() {
    let rows = Rows::new();
    let find = |found: &str| {
        let found = found.as_bytes().to_vec();
        move || Ok::<_, Fault>(Some(found))
    };
    let read = |as_of, found: &str| {
        String::from_utf8(rows.get(b"row", as_of, find(found)).unwrap().unwrap()).unwrap()
    };
    let write = |change: &dyn Fn(&mut Batch), result: Result<(), ()>| {
        let mut batch = Batch::default();
        change(&mut batch);
        assert_eq!(rows.write(&batch, || result), result);
    };
    let put = |batch: &mut Batch| batch.put(b"row".to_vec(), Vec::new());
    let before = rows.now();
    assert_eq!(read(before, "old"), "old");
    assert_eq!(read(before, "not asked for"), "old", "kept");
    write(&put, Ok(()));
    let after = rows.now();
    assert_eq!(read(before, "old"), "old", "and not kept, because it may be gone");
    assert_eq!(read(after, "new"), "new");
    assert_eq!(read(before, "old"), "old", "what is kept is newer than this view");
    assert_eq!(read(after, "not asked for"), "new");
    // Another row of its own is nothing to this one, unless they share a shard.
    write(&|batch| batch.clear(KeyRange::prefix(b"other")), Ok(()));
    assert_eq!(read(rows.now(), "not asked for"), "new");
    for gone in [KeyRange::prefix(b"r"), KeyRange { from: Vec::new(), to: None }] {
        write(&|batch| batch.clear(gone.clone()), Ok(()));
        assert_eq!(read(rows.now(), "newer"), "newer");
    }
    write(&put, Err(()));
    assert_eq!(read(rows.now(), "asked for"), "asked for", "after a failure nothing is sure");
    // A view that was made while a write is under way keeps nothing that the write may be about.
    let meanwhile = rows.now();
    let mut batch = Batch::default();
    put(&mut batch);
    let done: Result<(), Fault> = rows.write(&batch, || {
        assert_eq!(rows.now(), meanwhile);
        assert_eq!(read(meanwhile, "under way"), "under way");
        Ok(())
    });
    done.unwrap();
    assert_eq!(read(rows.now(), "written"), "written");
}

#[test]
fn kept_rows_stay_within_their_memory_and_long_ones_are_not_kept() {
    let rows = Rows::new();
    let read = |length: usize| move || Ok::<_, Fault>(Some(vec![7; length]));
    for id in 0..100_000_u32 {
        rows.get(&id.to_be_bytes(), rows.now(), read(1000)).unwrap();
    }
    assert!(rows.bytes() <= 16 << 20, "{}", rows.bytes());
    assert!(rows.bytes() > 8 << 20, "{}", rows.bytes());
    rows.get(b"long", rows.now(), read(100_000)).unwrap();
    let again = rows.get(b"long", rows.now(), || Ok::<_, Fault>(None)).unwrap();
    assert_eq!(again, None, "it was asked for again");
}
