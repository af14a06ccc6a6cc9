//! One simulated pack: bytes, of which a prefix is durable.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peerglass_catalog::keyspace::BoxFuture;
use peerglass_transfer::{PackFile, PackId};
use tokio::time::{Instant, sleep_until};

use super::faults::{DiskFaults, PACKS_FULL, Place};
use super::power::Power;
use crate::dice::Dice;

/// What a cache keeps or loses as one.
const PAGE_BYTES: usize = 4_096;
/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// The bytes of one pack.
#[derive(Clone, Default)]
pub(crate) struct PackBytes {
    /// What the node reads.
    live: Vec<u8>,
    /// How much of it reached the machine before power failed.
    cached: usize,
    /// How much of it a power cut cannot touch.
    durable: usize,
    /// A sync failed: nothing more becomes durable.
    holed: bool,
}

/// A pack's bytes, as the open files and the directory share them.
pub(crate) type SharedBytes = Arc<Mutex<PackBytes>>;

pub(crate) fn locked(bytes: &SharedBytes) -> MutexGuard<'_, PackBytes> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PackBytes {
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// What a power cut cannot touch.
    pub(crate) fn durable(&self) -> &[u8] {
        &self.live[..self.durable]
    }

    /// `bytes`, all of them durable.
    pub(crate) fn at_rest(bytes: Vec<u8>) -> SharedBytes {
        let len = bytes.len();
        Arc::new(Mutex::new(Self { live: bytes, cached: len, durable: len, holed: false }))
    }

    /// Change one bit of what is on the disk (F-D6).
    pub(crate) fn flip(&mut self, bit: u64) {
        let at = usize::try_from(bit / 8).expect("a pack fits into memory");
        self.live[at] ^= 1 << (bit % 8);
    }

    /// What is left when power fails: each unsynced page survives whole, torn, rotten or not at all.
    pub(crate) fn after_power_cut(&self, dice: &mut Dice, faults: &DiskFaults) -> SharedBytes {
        let mut left = self.live[..self.cached].to_vec();
        let count = |what| faults.chronicle.count(what);
        if self.durable < self.cached && dice.chance(300) {
            // The length is part of the unsynced metadata.
            left.truncate(self.durable + dice.index(self.cached - self.durable));
            count("F-D1 pack cut short");
        }
        let mut at = self.durable;
        while at < left.len() {
            let end = left.len().min((at / PAGE_BYTES + 1) * PAGE_BYTES);
            let page = &mut left[at..end];
            match dice.below(10) {
                0..5 => {}
                5..8 => {
                    page.fill(0);
                    count("F-D1 pack page lost");
                }
                8 => {
                    for sector in page.chunks_mut(SECTOR_BYTES) {
                        if dice.chance(500) {
                            sector.fill(0);
                        }
                    }
                    count("F-D2 torn pack page");
                }
                _ => {
                    page[dice.index(end - at)] ^= 1 << dice.below(8);
                    count("F-D6 unsynced pack page rotten");
                }
            }
            at = end;
        }
        Self::at_rest(left)
    }

    /// What is left when only the process dies. The bytes are copied, so that a file of the dead
    /// process cannot reach them.
    pub(crate) fn after_kill(&self) -> SharedBytes {
        let live = self.live[..self.cached].to_vec();
        Arc::new(Mutex::new(Self { live, ..self.clone() }))
    }
}

/// One life's open pack.
pub(crate) struct SimFile {
    pub(crate) pack: PackId,
    pub(crate) bytes: SharedBytes,
    pub(crate) power: Arc<Power>,
    pub(crate) faults: Arc<DiskFaults>,
    /// Bytes left on the disk for all packs together.
    pub(crate) room: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl SimFile {
    fn note(&self, event: std::fmt::Arguments<'_>) {
        self.faults.note(Place::Pack, format_args!("{} {event}", self.pack));
    }

    fn broken(&self, what: &'static str) -> io::Error {
        self.faults.chronicle.count(what);
        self.power.mark_faulted();
        self.note(format_args!("{what}"));
        io::Error::other(format!("{what} (simulated)"))
    }
}

impl PackFile for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let on = self.power.operation();
        let room = (self.room)();
        let mut file = locked(&self.bytes);
        let fails = self.faults.fails_call();
        let fits = bytes.len() as u64 <= room;
        // A failed write leaves an unknown part behind.
        let written = match (fails, fits) {
            (true, _) => bytes.len() / 2,
            (false, false) => usize::try_from(room).expect("less than the length"),
            (false, true) => bytes.len(),
        };
        file.live.extend_from_slice(&bytes[..written]);
        if on {
            file.cached += written;
            self.note(format_args!("append {written} of {}", bytes.len()));
        }
        if fails {
            return Err(self.broken("F-D4 failed append"));
        }
        if !fits {
            self.faults.chronicle.count(PACKS_FULL);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.faults.fails_call() {
            return Err(self.broken("F-D4 failed read"));
        }
        let file = locked(&self.bytes);
        let start = usize::try_from(offset).ok();
        let found = start
            .and_then(|start| file.live.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.bytes).len() as u64)
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let on = self.power.operation();
        let end = locked(&self.bytes).cached;
        if self.faults.lies(Place::Pack) {
            return Box::pin(std::future::ready(Ok(())));
        }
        let fails = self.faults.fails_sync(Place::Pack);
        let done_at = Instant::now() + self.faults.sync_time();
        let file = Self {
            pack: self.pack,
            bytes: Arc::clone(&self.bytes),
            power: Arc::clone(&self.power),
            faults: Arc::clone(&self.faults),
            room: Arc::clone(&self.room),
        };
        Box::pin(async move {
            if !on {
                return std::future::pending().await;
            }
            sleep_until(done_at).await;
            if !file.power.is_on() {
                return std::future::pending().await;
            }
            if fails {
                locked(&file.bytes).holed = true;
                return Err(file.broken("F-D5 failed sync of a pack"));
            }
            let mut bytes = locked(&file.bytes);
            if !bytes.holed {
                bytes.durable = bytes.durable.max(end);
            }
            file.note(format_args!("sync to {end}"));
            Ok(())
        })
    }
}
