//! The simulated directory of packs.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peerglass_catalog::keyspace::BoxFuture;
use peerglass_transfer::{PackDisk, PackFile, PackId};
use tokio::time::{Instant, sleep_until};

use super::faults::{DiskFaults, Place};
use super::pack_file::{PackBytes, SharedBytes, SimFile, locked};
use super::power::Power;
use crate::dice::Dice;

type Listing = BTreeMap<PackId, SharedBytes>;

/// A create (`Some`) or a remove (`None`) that is not durable yet.
type Change = (PackId, Option<SharedBytes>);

/// The packs of one machine.
pub(crate) struct PacksCore {
    dice: Dice,
    durable: Listing,
    /// Changes that are not durable yet, oldest first.
    unsynced: VecDeque<Change>,
    /// Changes that are durable.
    synced: u64,
    /// Changes that a failed sync should have covered. No later sync does.
    given_up: Vec<Change>,
    /// What the node sees.
    live: Listing,
}

impl PacksCore {
    /// None. Their dice are those of `machine`.
    pub(crate) fn new(seed: u64, machine: &str) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            dice: Dice::new(seed, &format!("packs of {machine}")),
            durable: Listing::new(),
            unsynced: VecDeque::new(),
            synced: 0,
            given_up: Vec::new(),
            live: Listing::new(),
        }))
    }

    fn end(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    fn make_durable(&mut self, end: u64) {
        while self.synced < end {
            let change = self.unsynced.pop_front().expect("changes before the end are in the queue");
            self.given_up.retain(|(pack, _)| *pack != change.0);
            apply(&mut self.durable, change);
            self.synced += 1;
        }
    }

    /// A sync up to `end` failed: whether these changes survive a power cut is open from now on.
    fn give_up(&mut self, end: u64) {
        while self.synced < end {
            let change = self.unsynced.pop_front().expect("changes before the end are in the queue");
            self.given_up.push(change);
            self.synced += 1;
        }
    }

    /// Power fails. Of the unsynced changes to one pack a prefix survives, whatever happens to those
    /// of other packs (F-D3).
    pub(crate) fn lose_power(&mut self, faults: &DiskFaults) {
        let mut by_pack: BTreeMap<PackId, Vec<Change>> = BTreeMap::new();
        let given_up = std::mem::take(&mut self.given_up);
        for change in given_up.into_iter().chain(std::mem::take(&mut self.unsynced)) {
            by_pack.entry(change.0).or_default().push(change);
        }
        for (_, mut changes) in by_pack {
            let lost = changes.split_off(self.dice.index(changes.len() + 1));
            changes.into_iter().for_each(|change| apply(&mut self.durable, change));
            for (_, created) in lost {
                let undone = if created.is_some() { "F-D3 create undone" } else { "F-D3 remove undone" };
                faults.chronicle.count(undone);
            }
        }
        for bytes in self.durable.values_mut() {
            let left = locked(bytes).after_power_cut(&mut self.dice, faults);
            *bytes = left;
        }
        self.live = self.durable.clone();
    }

    /// The process dies and the machine does not.
    pub(crate) fn lose_process(&mut self) {
        // One copy a pack, however many listings name it: the copy is what new files share.
        let mut copies: Vec<(SharedBytes, SharedBytes)> = Vec::new();
        let mut copy = |old: &SharedBytes| match copies.iter().find(|(seen, _)| Arc::ptr_eq(seen, old)) {
            Some((_, new)) => Arc::clone(new),
            None => {
                let new = locked(old).after_kill();
                copies.push((Arc::clone(old), Arc::clone(&new)));
                new
            }
        };
        self.durable.values_mut().for_each(|bytes| *bytes = copy(bytes));
        for (_, created) in self.given_up.iter_mut().chain(&mut self.unsynced) {
            *created = created.as_ref().map(&mut copy);
        }
        self.live = self.durable.clone();
        let cached = self.given_up.iter().chain(&self.unsynced).cloned();
        cached.for_each(|change| apply(&mut self.live, change));
    }

    /// What a power cut cannot touch.
    pub(crate) fn durable(&self) -> Vec<(PackId, Vec<u8>)> {
        self.durable.iter().map(|(pack, bytes)| (*pack, locked(bytes).durable().to_vec())).collect()
    }

    /// Hold `packs` instead, all of them durable.
    pub(crate) fn replace(&mut self, packs: Vec<(PackId, Vec<u8>)>) {
        self.unsynced.clear();
        self.given_up.clear();
        self.durable = packs.into_iter().map(|(pack, bytes)| (pack, PackBytes::at_rest(bytes))).collect();
        self.live = self.durable.clone();
    }

    fn used(&self) -> u64 {
        self.live.values().map(|bytes| locked(bytes).len() as u64).sum()
    }

    /// Every pack and its length.
    pub(crate) fn list(&self) -> Vec<(PackId, u64)> {
        self.live.iter().map(|(pack, bytes)| (*pack, locked(bytes).len() as u64)).collect()
    }

    /// Change one bit somewhere in a pack at rest (F-D6). Answers with which pack, and where.
    pub(crate) fn rot(&mut self) -> Option<(PackId, u64)> {
        let packs: Vec<_> = self.live.iter().filter(|(_, bytes)| locked(bytes).len() > 0).collect();
        if packs.is_empty() {
            return None;
        }
        let (pack, bytes) = *self.dice.pick(&packs);
        let bit = self.dice.below(locked(bytes).len() as u64 * 8);
        locked(bytes).flip(bit);
        Some((*pack, bit / 8))
    }
}

fn apply(listing: &mut Listing, (pack, created): Change) {
    match created {
        Some(bytes) => listing.insert(pack, bytes),
        None => listing.remove(&pack),
    };
}

/// One life's handle to the packs.
#[derive(Clone)]
pub(crate) struct SimPacks {
    pub(crate) core: Arc<Mutex<PacksCore>>,
    pub(crate) power: Arc<Power>,
    pub(crate) faults: Arc<DiskFaults>,
}

impl SimPacks {
    fn edit(&self) -> MutexGuard<'_, PacksCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: std::fmt::Arguments<'_>) {
        self.faults.note(Place::Directory, event);
    }

    fn file(&self, pack: PackId, bytes: SharedBytes) -> Arc<dyn PackFile> {
        let (core, faults) = (Arc::clone(&self.core), Arc::clone(&self.faults));
        let room = move || {
            let used = core.lock().unwrap_or_else(PoisonError::into_inner).used();
            faults.packs_bytes_max().saturating_sub(used)
        };
        let (power, faults) = (Arc::clone(&self.power), Arc::clone(&self.faults));
        Arc::new(SimFile { pack, bytes, power, faults, room: Arc::new(room) })
    }
}

impl PackDisk for SimPacks {
    fn create(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        let on = self.power.operation();
        let mut core = self.edit();
        if core.live.contains_key(&pack) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let bytes = SharedBytes::default();
        core.live.insert(pack, Arc::clone(&bytes));
        if on {
            core.unsynced.push_back((pack, Some(Arc::clone(&bytes))));
            self.note(format_args!("create {pack}"));
        }
        drop(core);
        Ok(self.file(pack, bytes))
    }

    fn open(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        let bytes = self.edit().live.get(&pack).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(pack, bytes))
    }

    fn list(&self) -> io::Result<Vec<(PackId, u64)>> {
        Ok(self.edit().list())
    }

    fn remove(&self, pack: PackId) -> io::Result<()> {
        let on = self.power.operation();
        let mut core = self.edit();
        if core.live.remove(&pack).is_some() && on {
            core.unsynced.push_back((pack, None));
            self.note(format_args!("remove {pack}"));
        }
        Ok(())
    }

    fn sync_directory(&self) -> BoxFuture<'static, io::Result<()>> {
        let on = self.power.operation();
        let end = self.edit().end();
        if self.faults.lies(Place::Directory) {
            return Box::pin(std::future::ready(Ok(())));
        }
        let fails = self.faults.fails_sync(Place::Directory);
        let done_at = Instant::now() + self.faults.sync_time();
        let disk = self.clone();
        Box::pin(async move {
            if !on {
                return std::future::pending().await;
            }
            sleep_until(done_at).await;
            if !disk.power.is_on() {
                return std::future::pending().await;
            }
            let mut core = disk.edit();
            if fails {
                core.give_up(end);
                disk.power.mark_faulted();
                disk.faults.chronicle.count("F-D5 failed sync of the pack directory");
                disk.note(format_args!("sync to {end} failed"));
                return Err(io::Error::other("the disk lost the change (simulated)"));
            }
            core.make_durable(end);
            disk.note(format_args!("sync to {end}"));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
