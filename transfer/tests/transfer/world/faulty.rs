//! A disk that fails on the step it is told to, and forgets at a power cut what was not synced.
//!
//! What a failed sync of packs or of their directory should have covered no later one does (F-D5).
//!
//! Packs and index share one count of steps, so that a test can visit every point at which something
//! reaches the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use peerglass_catalog::keyspace::{Batch, BoxFuture, Direction, Entries, Fault, KeyRange, Keyspace, Read};
use peerglass_catalog::{MemoryKeyspace, apply_batch};
use peerglass_transfer::{PackDisk, PackFile, PackId, TransferDisk};

/// What happens at the chosen step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fuse {
    /// Nothing.
    Safe,
    /// This step and all after it fail: the process is as good as dead.
    Dead { at: usize },
    /// This step alone fails.
    Once { at: usize, kind: io::ErrorKind },
    /// From this step on there is no room, but everything else works.
    Full { at: usize },
    /// Packs find no room; what is kept in reserve is enough for the index.
    PacksFull,
}

/// What a step needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    Nothing,
    Pack,
    Index,
}

#[derive(Debug)]
struct Steps {
    fuse: Fuse,
    taken: usize,
}

impl Steps {
    fn step(&mut self, writes: Writes) -> io::Result<()> {
        let step = self.taken;
        self.taken += 1;
        match self.fuse {
            Fuse::Dead { at } if step >= at => Err(io::Error::other("the machine is off")),
            Fuse::Once { at, kind } if step == at => Err(kind.into()),
            Fuse::Full { at } if step >= at && writes != Writes::Nothing => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Fuse::PacksFull if writes == Writes::Pack => Err(io::ErrorKind::StorageFull.into()),
            Fuse::Safe | Fuse::Dead { .. } | Fuse::Once { .. } | Fuse::Full { .. } | Fuse::PacksFull => {
                Ok(())
            }
        }
    }
}

/// What of one pack is durable.
#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
    /// A sync failed: nothing more becomes durable.
    holed: bool,
}

type Shared = Arc<Mutex<Content>>;

/// A whole machine's disk. Clones share it.
#[derive(Clone)]
pub(crate) struct FaultyDisk {
    steps: Arc<Mutex<Steps>>,
    folder: Arc<Mutex<Folder>>,
    index: Arc<FaultyIndex>,
}

#[derive(Default)]
struct Folder {
    now: BTreeMap<PackId, Shared>,
    durable: BTreeMap<PackId, Shared>,
    /// Packs whose last create or remove a failed sync should have covered.
    given_up: BTreeSet<PackId>,
}

impl Folder {
    fn is_durable(&self, id: PackId) -> bool {
        match (self.now.get(&id), self.durable.get(&id)) {
            (Some(now), Some(durable)) => Arc::ptr_eq(now, durable),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    fn ids(&self) -> BTreeSet<PackId> {
        self.now.keys().chain(self.durable.keys()).copied().collect()
    }

    fn sync(&mut self) {
        for id in self.ids().difference(&self.given_up) {
            match self.now.get(id) {
                Some(file) => self.durable.insert(*id, Arc::clone(file)),
                None => self.durable.remove(id),
            };
        }
    }

    fn fail_sync(&mut self) {
        let lost: Vec<PackId> = self.ids().into_iter().filter(|id| !self.is_durable(*id)).collect();
        self.given_up.extend(lost);
    }
}

struct FaultyIndex {
    steps: Arc<Mutex<Steps>>,
    now: MemoryKeyspace,
    log: Mutex<IndexLog>,
}

#[derive(Default)]
struct IndexLog {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    since: Vec<Batch>,
}

impl FaultyDisk {
    pub(crate) fn new(fuse: Fuse) -> Self {
        Self::of(fuse, Folder::default(), BTreeMap::new())
    }

    fn of(fuse: Fuse, folder: Folder, index: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let steps = Arc::new(Mutex::new(Steps { fuse, taken: 0 }));
        let now = MemoryKeyspace::new();
        let changes = index.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        now.write(Batch { cleared: vec![], changes }).unwrap();
        let log = Mutex::new(IndexLog { durable: index, since: vec![] });
        let index = Arc::new(FaultyIndex { steps: steps.clone(), now, log });
        Self { steps, folder: Arc::new(Mutex::new(folder)), index }
    }

    pub(crate) fn disk(&self) -> TransferDisk {
        TransferDisk { packs: Arc::new(self.clone()), index: self.index.clone() }
    }

    pub(crate) fn steps_taken(&self) -> usize {
        self.steps.lock().unwrap().taken
    }

    /// Change what will fail; the count begins anew.
    pub(crate) fn rewire(&self, fuse: Fuse) {
        *self.steps.lock().unwrap() = Steps { fuse, taken: 0 };
    }

    /// The disk as the next process finds it. `chance` decides, for everything not synced, what of it
    /// is there (F-D1, F-D2, F-D3).
    pub(crate) fn after_power_cut(&self, mut chance: impl FnMut(usize) -> usize, fuse: Fuse) -> Self {
        let folder = self.folder.lock().unwrap();
        let mut files = BTreeMap::new();
        for id in folder.ids() {
            let (now, durable) = (folder.now.get(&id), folder.durable.get(&id));
            let present = match (now, durable) {
                (Some(_), Some(_)) => true,
                _ => chance(2) == 0,
            };
            if let (true, Some(file)) = (present, now.or(durable)) {
                let content = torn(&file.lock().unwrap(), &mut chance);
                files.insert(id, Arc::new(Mutex::new(content)));
            }
        }
        let log = self.index.log.lock().unwrap();
        let mut index = log.durable.clone();
        let kept = chance(log.since.len() + 1);
        for batch in &log.since[..kept] {
            apply_batch(&mut index, batch.clone());
        }
        Self::of(fuse, Folder { durable: files.clone(), now: files, given_up: BTreeSet::new() }, index)
    }
}

/// What of a pack's unsynced sectors a power cut leaves.
fn torn(content: &Content, chance: &mut impl FnMut(usize) -> usize) -> Content {
    let mut bytes = content.bytes.clone();
    let unsynced = bytes.len() - content.synced;
    bytes.truncate(content.synced + chance(unsynced + 1));
    for sector in bytes[content.synced..].chunks_mut(512) {
        if chance(4) == 0 {
            sector.fill(0);
        }
    }
    Content { synced: bytes.len(), bytes, holed: false }
}

impl FaultyDisk {
    fn step(&self, writes: Writes) -> io::Result<()> {
        self.steps.lock().unwrap().step(writes)
    }

    fn file(&self, content: &Shared) -> Arc<dyn PackFile> {
        Arc::new(FaultyFile { steps: self.steps.clone(), content: content.clone() })
    }
}

impl PackDisk for FaultyDisk {
    fn create(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        self.step(Writes::Pack)?;
        let mut folder = self.folder.lock().unwrap();
        if folder.now.contains_key(&pack) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        folder.given_up.remove(&pack);
        Ok(self.file(folder.now.entry(pack).or_default()))
    }

    fn open(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        self.step(Writes::Nothing)?;
        let folder = self.folder.lock().unwrap();
        Ok(self.file(folder.now.get(&pack).ok_or(io::ErrorKind::NotFound)?))
    }

    fn list(&self) -> io::Result<Vec<(PackId, u64)>> {
        let folder = self.folder.lock().unwrap();
        Ok(folder.now.iter().map(|(id, file)| (*id, file.lock().unwrap().bytes.len() as u64)).collect())
    }

    fn remove(&self, pack: PackId) -> io::Result<()> {
        self.step(Writes::Nothing)?;
        let mut folder = self.folder.lock().unwrap();
        if folder.now.remove(&pack).is_some() {
            folder.given_up.remove(&pack);
        }
        Ok(())
    }

    fn sync_directory(&self) -> BoxFuture<'static, io::Result<()>> {
        let done = self.step(Writes::Nothing);
        let mut folder = self.folder.lock().unwrap();
        match done {
            Ok(()) => folder.sync(),
            Err(_) => folder.fail_sync(),
        }
        Box::pin(std::future::ready(done))
    }
}

struct FaultyFile {
    steps: Arc<Mutex<Steps>>,
    content: Shared,
}

impl PackFile for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let step = self.steps.lock().unwrap().step(Writes::Pack);
        // A write that fails has often written a part.
        let written = if step.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.content.lock().unwrap().bytes.extend_from_slice(&bytes[..written]);
        step
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.steps.lock().unwrap().step(Writes::Nothing)?;
        let content = self.content.lock().unwrap();
        let start = offset as usize;
        let found = content.bytes.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().bytes.len() as u64)
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let done = self.steps.lock().unwrap().step(Writes::Nothing);
        let mut content = self.content.lock().unwrap();
        content.holed |= done.is_err();
        if !content.holed {
            content.synced = content.bytes.len();
        }
        Box::pin(std::future::ready(done))
    }
}

impl Read for FaultyIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.now.get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        self.now.scan(range, direction)
    }
}

impl Keyspace for FaultyIndex {
    fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
        self.now.view(look);
    }

    fn write(&self, batch: Batch) -> Result<(), Fault> {
        self.steps.lock().unwrap().step(Writes::Index)?;
        self.log.lock().unwrap().since.push(batch.clone());
        self.now.write(batch)
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        let done = self.steps.lock().unwrap().step(Writes::Nothing).map_err(Fault::Io).map(|()| {
            let mut log = self.log.lock().unwrap();
            log.since.clear();
            log.durable = self.now.entries().into_iter().collect();
        });
        Box::pin(std::future::ready(done))
    }
}
