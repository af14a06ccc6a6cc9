//! A keyspace whose unsynced batches a power cut may take back.
//!
//! Like a write-ahead log: what survives is what was synced and a prefix of the rest, each batch
//! whole or not at all. After a failed sync there is a hole in that log, and nothing behind the hole
//! ever becomes durable, whatever later syncs answer.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use peerglass_catalog::apply_batch;
use peerglass_catalog::keyspace::{Batch, BoxFuture, Direction, Entries, Fault, KeyRange, Keyspace, Read};
use tokio::time::{Instant, sleep_until};

use super::digest::{APPLIED, MapDigest};
use super::faults::{DATABASE_FULL, DiskFaults, Place};
use super::power::Power;
use crate::dice::Dice;
use crate::mutation::Mutation;

pub(super) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the platter holds and what only the cache does.
pub(crate) struct KeyspaceCore {
    place: Place,
    dice: Dice,
    durable: Map,
    /// Batches that are not durable yet, oldest first.
    unsynced: VecDeque<Batch>,
    /// Batches that are durable.
    synced: u64,
    /// What the node reads.
    live: Map,
    /// A sync failed: nothing after that point becomes durable in this life.
    holed: bool,
    /// Of `live`, where it is a state that replicas share.
    digest: MapDigest,
    /// Rows that a known bug keeps back until the next batch.
    late: Batch,
}

impl KeyspaceCore {
    /// An empty one. Its dice are those of `machine`.
    pub(crate) fn new(place: Place, seed: u64, machine: &str) -> Arc<RwLock<Self>> {
        Arc::new(RwLock::new(Self {
            place,
            dice: Dice::new(seed, &format!("{} of {machine}", place.name())),
            durable: Map::new(),
            unsynced: VecDeque::new(),
            synced: 0,
            live: Map::new(),
            holed: false,
            digest: MapDigest::default(),
            late: Batch::default(),
        }))
    }

    fn end(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    fn make_durable(&mut self, end: u64) {
        while !self.holed && self.synced < end {
            let batch = self.unsynced.pop_front().expect("batches before the end are in the queue");
            apply_batch(&mut self.durable, batch);
            self.synced += 1;
        }
    }

    /// Power fails: a drawn prefix of the unsynced batches survives. Answers with how many were lost.
    pub(crate) fn lose_power(&mut self) -> u64 {
        let unsynced = self.unsynced.len();
        let survive = self.dice.index(unsynced + 1);
        self.holed = false;
        self.make_durable(self.synced + survive as u64);
        self.unsynced.clear();
        self.live = self.durable.clone();
        self.look_anew();
        (unsynced - survive) as u64
    }

    /// What a power cut cannot touch.
    pub(crate) fn durable(&self) -> &Map {
        &self.durable
    }

    /// Hold `map` instead, all of it durable.
    pub(crate) fn replace(&mut self, map: Map) {
        self.durable = map;
        self.unsynced.clear();
        self.lose_process();
    }

    /// The process dies and the machine does not: everything written is still in the cache, and the
    /// database writes it anew when it is opened, so an old hole is closed.
    pub(crate) fn lose_process(&mut self) {
        self.holed = false;
        self.live = self.durable.clone();
        for batch in &self.unsynced {
            apply_batch(&mut self.live, batch.clone());
        }
        self.look_anew();
    }

    fn look_anew(&mut self) {
        self.late = Batch::default();
        if self.place == Place::State {
            self.digest = MapDigest::of(&self.live);
        }
    }

    /// Forget one row for good, as a known bug does.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        self.durable.remove(key);
        self.live.remove(key);
    }

    /// What of `batch` can become durable: all of it, unless a known bug keeps something back.
    fn kept(&mut self, mut batch: Batch, faults: &DiskFaults) -> Batch {
        if self.place == Place::Log && faults.has(Mutation::VoteNotPersisted) {
            batch.changes.remove(VOTE);
        }
        if self.place == Place::State && faults.has(Mutation::AppliedTwice) {
            let late = std::mem::take(&mut self.late);
            let (now, later) =
                std::mem::take(&mut batch.changes).into_iter().partition(|(key, _)| !is_position(key));
            (batch.changes, self.late.changes) = (now, later);
            batch.changes.extend(late.changes);
        }
        batch
    }
}

/// Whether a row of the state says what was applied, and not what came of it.
fn is_position(key: &[u8]) -> bool {
    key == APPLIED || key.starts_with(b"#f") || key.starts_with(b"#r")
}

/// Where a Raft log keeps the term and the vote.
pub(super) const VOTE: &[u8] = b"v";

/// One life's handle to a keyspace.
pub(crate) struct SimKeyspace {
    core: Arc<RwLock<KeyspaceCore>>,
    place: Place,
    power: Arc<Power>,
    faults: Arc<DiskFaults>,
}

impl SimKeyspace {
    pub(crate) fn new(core: Arc<RwLock<KeyspaceCore>>, power: Arc<Power>, faults: Arc<DiskFaults>) -> Self {
        let place = core.read().unwrap_or_else(PoisonError::into_inner).place;
        Self { core, place, power, faults }
    }

    fn note(&self, event: std::fmt::Arguments<'_>) {
        self.faults.note(self.place, event);
    }

    fn read(&self) -> RwLockReadGuard<'_, KeyspaceCore> {
        self.core.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self) -> RwLockWriteGuard<'_, KeyspaceCore> {
        self.core.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for SimKeyspace {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.read().live.get(key).cloned())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        let found: Vec<_> = Read::scan(&self.read().live, range, direction).collect();
        Box::new(found.into_iter())
    }
}

impl Keyspace for SimKeyspace {
    fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
        look(&self.read().live);
    }

    fn write(&self, batch: Batch) -> Result<(), Fault> {
        if self.faults.fills_database() {
            self.faults.chronicle.count(DATABASE_FULL);
            self.power.mark_faulted();
            self.note(format_args!("full"));
            return Err(Fault::Io(io::ErrorKind::StorageFull.into()));
        }
        let on = self.power.operation();
        let mut core = self.edit();
        if self.place == Place::State {
            let KeyspaceCore { digest, live, .. } = &mut *core;
            digest.follow(live, &batch);
            if let Some(Some(mark)) = batch.changes.get(APPLIED) {
                self.faults.compare_state(mark, digest.value());
            }
        }
        apply_batch(&mut core.live, batch.clone());
        if on {
            self.note(format_args!("write {} {} bytes", core.end(), weight(&batch)));
            let batch = core.kept(batch, &self.faults);
            core.unsynced.push_back(batch);
        }
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        let on = self.power.operation();
        let end = self.read().end();
        if self.faults.lies(self.place) {
            return Box::pin(std::future::ready(Ok(())));
        }
        let fails = self.faults.fails_sync(self.place);
        let done_at = Instant::now() + self.faults.sync_time();
        Box::pin(async move {
            if !on {
                return std::future::pending().await;
            }
            sleep_until(done_at).await;
            if !self.power.is_on() {
                return std::future::pending().await;
            }
            let mut core = self.edit();
            if fails {
                core.holed = true;
                self.power.mark_faulted();
                self.faults.chronicle.count("F-D5 failed sync of a database");
                self.note(format_args!("sync to {end} failed"));
                return Err(Fault::Io(io::Error::other("the disk lost the write (simulated)")));
            }
            core.make_durable(end);
            self.note(format_args!("sync to {end}"));
            Ok(())
        })
    }
}

fn weight(batch: &Batch) -> usize {
    batch.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: u8) -> Batch {
        let mut batch = Batch::default();
        batch.put(vec![key], vec![key]);
        batch
    }

    fn handle(core: &Arc<RwLock<KeyspaceCore>>) -> SimKeyspace {
        SimKeyspace::new(Arc::clone(core), Arc::new(Power::new(None)), DiskFaults::none())
    }

    /// F-D1: what was synced stays, and of the rest a prefix, never a batch without the one before.
    #[tokio::test(start_paused = true)]
    async fn a_power_cut_takes_a_tail_and_nothing_synced() {
        let mut survived = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let core = KeyspaceCore::new(Place::Log, seed, "test");
            let disk = handle(&core);
            disk.write(put(0)).unwrap();
            disk.sync().await.unwrap();
            (1..5).for_each(|key| disk.write(put(key)).unwrap());
            disk.edit().lose_power();
            let keys: Vec<u8> = disk.read().live.keys().map(|key| key[0]).collect();
            assert_eq!(keys, (0..keys.len() as u8).collect::<Vec<_>>());
            survived.insert(keys.len());
        }
        assert_eq!(survived, (1..=5).collect(), "every prefix happens");
    }

    /// A doomed life sees its own writes, and the disk does not.
    #[tokio::test(start_paused = true)]
    async fn nothing_reaches_the_disk_after_the_cut() {
        let core = KeyspaceCore::new(Place::Log, 1, "test");
        let power = Arc::new(Power::new(Some(2)));
        let doomed = SimKeyspace::new(Arc::clone(&core), power, DiskFaults::none());
        doomed.write(put(1)).unwrap();
        doomed.write(put(2)).unwrap();
        assert_eq!(doomed.get(&[2]).unwrap(), Some(vec![2]));
        let sync = tokio::time::timeout(std::time::Duration::from_secs(60), doomed.sync()).await;
        assert!(sync.is_err(), "a sync after the cut never returns");
        doomed.edit().lose_process();
        assert_eq!(handle(&core).get(&[1]).unwrap(), Some(vec![1]));
        assert_eq!(handle(&core).get(&[2]).unwrap(), None);
    }
}
