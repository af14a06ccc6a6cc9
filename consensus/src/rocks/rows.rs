//! Rows read lately, kept beside RocksDB because its own row cache cannot be used with range deletions.
//!
//! A page of a list reads 25 records that lie in 25 blocks; finding each takes a look into every level of
//! files. A kept row takes one look into a table.
//!
//! # Why no view reads a row of another state
//!
//! Writes are counted. A row is kept with the count *as of* which it was read, and a view has the count
//! before its snapshot was made.
//!
//! * A write drops its rows, and notes its count in their shards, before RocksDB has them; the count is raised after.
//!   So a row that is found was not written since it was read, whatever a view's snapshot holds.
//! * A view takes no row that was read as of a later count than its own: its snapshot may be from before the
//!   write that made that row.
//! * A view keeps no row of a shard that was written to after its count: what it read may be from before that.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use peerglass_catalog::keyspace::Batch;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

/// Memory for rows, their keys and what keeping them takes.
const BYTES_MAX: u64 = 16 << 20;
/// A longer row is not kept: many others would have to go for it.
const ROW_BYTES_MAX: usize = 16 << 10;
/// Beside key and value: the allocations and the cache's own links.
const KEEPING_BYTES: usize = 96;
const SHARDS: usize = 64;

/// How many writes a reader is sure to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AsOf(u64);

/// Rows of one database.
pub(super) struct Rows {
    hashing: RandomState,
    shards: Vec<Mutex<Shard>>,
    /// Writes that RocksDB has.
    written: AtomicU64,
    /// One write at a time, or the count of one would stand for another that is not done.
    writing: Mutex<()>,
}

struct Shard {
    rows: Cache<Box<[u8]>, Row, Weight>,
    /// The count of the last write to any row that belongs here, kept or not.
    last_write: AsOf,
}

struct Row {
    value: Box<[u8]>,
    as_of: AsOf,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Box<[u8]>, Row> for Weight {
    fn weight(&self, key: &Box<[u8]>, row: &Row) -> u64 {
        (key.len() + row.value.len() + KEEPING_BYTES) as u64
    }
}

impl Rows {
    pub(super) fn new() -> Self {
        let shard_bytes = BYTES_MAX / SHARDS as u64;
        let usual_row_bytes = 1 << 10;
        let shard = || Shard {
            rows: Cache::with_weighter((shard_bytes / usual_row_bytes) as usize, shard_bytes, Weight),
            last_write: AsOf(0),
        };
        Self {
            hashing: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            written: AtomicU64::new(0),
            writing: Mutex::new(()),
        }
    }

    /// What a reader is sure to see that looks from now on. To be asked before its snapshot is made.
    pub(super) fn now(&self) -> AsOf {
        AsOf(self.written.load(Ordering::Acquire))
    }

    /// The row under `key` for a reader as of `as_of`, if it is kept; if not, what `read` finds.
    pub(super) fn get<E>(
        &self,
        key: &[u8],
        as_of: AsOf,
        read: impl FnOnce() -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let mut shard = self.shard(key);
        if let Some(row) = shard.rows.get(key).filter(|row| row.as_of <= as_of) {
            return Ok(Some(row.value.to_vec()));
        }
        drop(shard);
        let found = read()?;
        if let Some(value) = found.as_ref().filter(|value| value.len() <= ROW_BYTES_MAX) {
            shard = self.shard(key);
            if shard.last_write <= as_of {
                shard.rows.insert(key.into(), Row { value: value.as_slice().into(), as_of });
            }
        }
        Ok(found)
    }

    /// Write `batch`, which `write` does.
    pub(super) fn write<E>(&self, batch: &Batch, write: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let this = AsOf(self.written.load(Ordering::Relaxed) + 1);
        if !batch.cleared.is_empty() {
            for shard in &self.shards {
                let mut shard = locked(shard);
                shard.rows.retain(|key, _| !batch.cleared.iter().any(|range| range.contains(key)));
                shard.last_write = this;
            }
        }
        for key in batch.changes.keys() {
            let mut shard = self.shard(key);
            shard.rows.remove(key.as_slice());
            shard.last_write = this;
        }
        let written = write();
        // Also when it failed: that wrote nothing, and the rows are to be read again.
        self.written.store(this.0, Ordering::Release);
        written
    }

    /// Memory taken by what is kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| locked(shard).rows.weight()).sum()
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        locked(&self.shards[self.hashing.hash_one(key) as usize % SHARDS])
    }
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
