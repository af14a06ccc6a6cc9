//! The log and the state machine against openraft's own conformance suite, and what it does not ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use peerglass_catalog::MemoryKeyspace;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::machine::Machine;
use crate::raft::SeededRuntime;
use crate::rocks::{RocksKeyspace, RocksRole};

/// Keeps the flush task and the directory of one test.
struct Kept {
    _tasks: JoinSet<()>,
    _dir: Option<TempDir>,
}

async fn store(
    disk: Arc<dyn Keyspace>,
    state: Arc<dyn Keyspace>,
    dir: Option<TempDir>,
) -> (Kept, LogStore, Machine) {
    let (flusher, flush) = Flusher::new(Arc::clone(&disk));
    let mut tasks = JoinSet::new();
    tasks.spawn(flush);
    (Kept { _tasks: tasks, _dir: dir }, LogStore::new(disk, flusher), Machine::open(state).await.unwrap())
}

struct InMemory;

impl StoreBuilder<Types, LogStore, Machine, Kept> for InMemory {
    async fn build(&self) -> Result<(Kept, LogStore, Machine), StorageError<Types>> {
        Ok(store(Arc::new(MemoryKeyspace::new()), Arc::new(MemoryKeyspace::new()), None).await)
    }
}

struct OnRocks;

impl StoreBuilder<Types, LogStore, Machine, Kept> for OnRocks {
    async fn build(&self) -> Result<(Kept, LogStore, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let log = RocksKeyspace::open(&dir.path().join("log"), RocksRole::Log).unwrap();
        let state = RocksKeyspace::open(&dir.path().join("state"), RocksRole::State).unwrap();
        Ok(store(Arc::new(log), Arc::new(state), Some(dir)).await)
    }
}

/// I-M5, as far as one store can break it.
#[tokio::test]
async fn conforms_in_memory() {
    SeededRuntime::scope(1, Suite::test_all(InMemory)).await.unwrap();
}

#[tokio::test]
async fn conforms_on_rocksdb() {
    SeededRuntime::scope(1, Suite::test_all(OnRocks)).await.unwrap();
}

/// F-D10: Raft would read a gap as "not written yet" and overwrite what was acknowledged.
#[tokio::test]
async fn a_gap_in_the_log_is_damage() {
    let (_kept, mut log, _machine) = InMemory.build().await.unwrap();
    let entry = |index| {
        let id = openraft::testing::log_id::<Types>(1, 1, index);
        <Entry as RaftEntry>::new_blank(id)
    };
    let mut batch = Batch::default();
    for index in [1, 2, 4] {
        batch.put(entry_key(index), encode(&entry(index)));
    }
    log.disk.write(batch).unwrap();
    assert_eq!(log.try_get_log_entries(1..3).await.unwrap().len(), 2);
    assert!(log.try_get_log_entries(1..5).await.is_err());
}

/// F-D6: an entry that does not decode stops the node instead of being skipped.
#[tokio::test]
async fn a_damaged_entry_is_reported() {
    let (_kept, mut log, _machine) = InMemory.build().await.unwrap();
    for value in [vec![], vec![VERSION], vec![VERSION + 1, 0, 0], vec![VERSION, 0xff, 0xff]] {
        let mut batch = Batch::default();
        batch.put(entry_key(1), value);
        log.disk.write(batch).unwrap();
        assert!(log.try_get_log_entries(1..2).await.is_err());
        assert!(log.get_log_state().await.is_err());
    }
}

/// The id lives and dies with the log; each start counts (F-D11).
#[tokio::test]
async fn an_identity_is_drawn_once_and_every_start_is_counted() {
    use crate::identity::{Chance, Identity};
    let disk = MemoryKeyspace::new();
    let first = Identity::begin(&disk, false, &mut Chance::new(5)).await.unwrap();
    let second = Identity::begin(&disk, false, &mut Chance::new(6)).await.unwrap();
    assert_eq!((first.node, first.cluster), (second.node, second.cluster));
    assert_eq!((first.boot.epoch, second.boot.epoch), (1, 2));
    assert_ne!(first.boot.nonce, second.boot.nonce);
    let wiped = Identity::begin(&MemoryKeyspace::new(), true, &mut Chance::new(7)).await.unwrap();
    assert_ne!(wiped.node, first.node, "an empty disk is another node");
}

/// A keyspace whose first sync fails, and every later one says it worked.
struct FailsOnce {
    inner: MemoryKeyspace,
    failed: AtomicBool,
}

impl Read for FailsOnce {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> keyspace::Entries<'_> {
        self.inner.scan(range, direction)
    }
}

impl Keyspace for FailsOnce {
    fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
        self.inner.view(look);
    }

    fn write(&self, batch: Batch) -> Result<(), Fault> {
        self.inner.write(batch)
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        let fails = !self.failed.swap(true, Ordering::SeqCst);
        Box::pin(std::future::ready(if fails { Err(Fault::Io(io::Error::other("lost"))) } else { Ok(()) }))
    }
}

/// F-D5: the operating system reports lost writes once and then forgets them, so what syncs after that
/// proves nothing, whoever was told.
#[tokio::test]
async fn a_failed_sync_is_final_for_everybody() {
    let disk = Arc::new(FailsOnce { inner: MemoryKeyspace::new(), failed: false.into() });
    let (_kept, mut log, _machine) = store(disk, Arc::new(MemoryKeyspace::new()), None).await;
    let mut failed = log.flusher.failed();
    log.flusher.sync_soon();
    failed.wait_for(Option::is_some).await.unwrap();
    assert!(log.save_vote(&Vote::new(1, 1)).await.is_err(), "a vote went out that no disk holds");
    assert!(log.truncate_after(None).await.is_err());
    assert!(log.flusher.sync().await.is_err());
}

/// What is kept in memory is what the disk has, whatever was appended, cut off and purged before.
#[tokio::test]
async fn the_recent_entries_are_those_on_disk() {
    use openraft::vote::RaftLeaderId;
    let id =
        |term, index| LogId::new(openraft::alias::LeaderIdOf::<Types>::new(term, 1).to_committed(), index);
    for seed in 0..40 {
        let mut dice = peerglass_catalog::testing::Dice(seed);
        let disk: Arc<dyn Keyspace> = Arc::new(MemoryKeyspace::new());
        let (_kept, mut log, _) = store(Arc::clone(&disk), Arc::new(MemoryKeyspace::new()), None).await;
        let (mut purged, mut last) = (0, 0);
        for term in 1..60 {
            match dice.roll() % 8 {
                0 => {
                    last = purged + dice.roll() % (last - purged + 1);
                    log.truncate_after((last > 0).then(|| id(term, last))).await.unwrap();
                }
                1 => {
                    // A snapshot may be ahead of the log.
                    purged += dice.roll() % (last - purged + 3);
                    last = last.max(purged);
                    log.purge(id(term, purged)).await.unwrap();
                }
                _ => {
                    let until = last + 1 + dice.roll() % 5;
                    let entries =
                        (last + 1..=until).map(|index| Entry::new(id(term, index), EntryPayload::Blank));
                    log.append(entries.collect::<Vec<_>>(), IOFlushed::noop()).await.unwrap();
                    last = until;
                }
            }
            let from = purged.saturating_sub(2) + dice.roll() % (last - purged + 4);
            let to = from + dice.roll() % 12;
            let range = KeyRange { from: entry_key(from), to: Some(entry_key(to)) };
            let there = keyspace::look(&*disk, |read| read_entries(read, range)).unwrap();
            let here = log.try_get_log_entries(from..to).await.unwrap();
            let ids = |entries: &[Entry]| entries.iter().map(RaftEntry::log_id).collect::<Vec<_>>();
            assert_eq!(ids(&here), ids(&there), "seed {seed}, term {term}");
        }
    }
}
