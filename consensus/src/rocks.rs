//! [`Keyspace`] on RocksDB.
//!
//! Writes are readable at once and go to RocksDB's write-ahead log without a sync; [`sync`] flushes that
//! log to the disk. Until then the end of it may be in this process only, and a killed process loses it
//! as a power cut would. A torn end of the log, as either leaves it, is cut off. Damage anywhere else
//! refuses to open, because what follows it may have been acknowledged; only of the state, which is seldom synced
//! and can be made again, what follows is cut off as well.
//!
//! # A full disk
//!
//! After a write that found no room RocksDB refuses all others, and looks every 5 s whether as much is
//! free again as its write buffers may hold. Then it goes on in a new write-ahead log, having lost
//! nothing: what the old one did not take is in memory still. But a sync while it refuses finds the old log
//! broken and ends that for good, so none is begun before a write has passed. A disk quota that is used up is
//! no such case to RocksDB: it never writes again.
//!
//! [`sync`]: Keyspace::sync

mod rows;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use peerglass_catalog::Fault;
use peerglass_catalog::keyspace::{Batch, BoxFuture, Direction, Entries, KeyRange, Keyspace, Look, Read};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBRecoveryMode, DataBlockIndexType, Env, IteratorMode, Options,
    ReadOptions, Snapshot, WriteBatch,
};

use rows::{AsOf, Rows};

/// What a database is for, which decides how its memory is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RocksRole {
    /// Written in order, read from the end, purged from the front, synced all the time.
    Log,
    /// Read at random, written with every request, and seldom synced: it can be made again from the log.
    State,
    /// Read at random.
    Index,
}

impl RocksRole {
    fn write_buffer_bytes(self) -> usize {
        match self {
            Self::Log | Self::Index => WRITE_BUFFER_BYTES,
            Self::State => STATE_BUFFER_BYTES,
        }
    }

    /// What a start makes of a damaged write-ahead log.
    fn recovery(self) -> DBRecoveryMode {
        match self {
            // Pages of an unsynced log reach the disk in any order, so a power cut may leave a hole in it.
            // The state goes on from before the hole; if the log does not reach back to there, the start is refused.
            Self::State => DBRecoveryMode::PointInTime,
            Self::Log | Self::Index => DBRecoveryMode::TolerateCorruptedTailRecords,
        }
    }
}

/// Memory for cached blocks of one database.
const BLOCK_CACHE_BYTES: usize = 32 << 20;
/// Memory for writes not yet in a sorted file; at most two of these per database.
const WRITE_BUFFER_BYTES: usize = 8 << 20;
/// The same for the state: an image takes some 20 rows, and each file written costs a merge later.
const STATE_BUFFER_BYTES: usize = 32 << 20;
/// Files young enough to be merged again soon are not worth compressing.
const COMPRESSED_FROM_LEVEL: i32 = 2;
/// Bits per key of the filters that spare point reads a look into most files.
const BLOOM_BITS: f64 = 10.0;
/// Size of such a filter before the writes that are not in a file yet, as a part of what they may take.
const BUFFER_BLOOM_RATIO: f64 = 0.02;

/// What a batch holds beside a key and its value: a tag and two lengths of at most five bytes.
const ROW_BYTES: usize = 11;

/// An ordered map in one RocksDB directory.
pub struct RocksKeyspace {
    db: Arc<Db>,
}

/// The database and whether it may be synced.
struct Db {
    rocks: DB,
    /// A write found no room, and none has passed since.
    full: AtomicBool,
    /// One sync at a time: one that queued inside RocksDB could no longer be held back.
    syncing: Mutex<()>,
    /// Rows read lately, where the same ones are read again and again.
    rows: Option<Rows>,
}

impl Db {
    fn write(&self, batch: WriteBatch) -> Result<(), Fault> {
        let written = self.rocks.write(batch).map_err(fault);
        // In the other order, a sync between the two could be begun after all.
        match &written {
            Ok(()) => self.full.store(false, Ordering::Release),
            Err(Fault::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
                self.full.store(true, Ordering::Release);
            }
            Err(_) => {}
        }
        written
    }

    fn sync(&self) -> Result<(), Fault> {
        let _alone = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.full.load(Ordering::Acquire) {
            // Nothing to write: it only passes once RocksDB writes again.
            self.write(WriteBatch::default())?;
        }
        // However it failed, it was begun.
        self.rocks.flush_wal(true).map_err(|error| Fault::Io(io::Error::other(error)))
    }

    fn view(&self) -> RocksView<'_> {
        let rows = self.rows.as_ref().map(|rows| (rows, rows.now()));
        RocksView { snapshot: self.rocks.snapshot(), rows }
    }
}

impl RocksKeyspace {
    /// Open the database at `path`, creating it if there is none.
    ///
    /// # Errors
    ///
    /// When another process has it open, when the disk refuses, or when a file is damaged; the
    /// message names the file.
    pub fn open(path: &Path, role: RocksRole) -> Result<Self, Fault> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
        if role != RocksRole::Log {
            table.set_bloom_filter(BLOOM_BITS, false);
            table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        }
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(role.write_buffer_bytes());
        // A system call less for each write. The index is left alone: it says whether there is room for a
        // chunk, and a sync is too late to learn that.
        options.set_manual_wal_flush(role != RocksRole::Index);
        options.set_max_write_buffer_number(2);
        if role != RocksRole::Log {
            options.set_memtable_prefix_bloom_ratio(BUFFER_BLOOM_RATIO);
            options.set_memtable_whole_key_filtering(true);
        }
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        options.set_min_level_to_compress(COMPRESSED_FROM_LEVEL);
        options.set_wal_recovery_mode(role.recovery());
        options.set_paranoid_checks(true);
        options.set_max_open_files(512);
        options.set_keep_log_file_num(4);
        options.set_max_total_wal_size(64 << 20);
        // Merges are no hurry, and would take turns with the requests that are.
        let mut env = Env::new().map_err(|error| at(path, &error))?;
        env.lower_thread_pool_cpu_priority();
        options.set_env(&env);
        let rocks = DB::open(&options, path).map_err(|error| at(path, &error))?;
        let rows = (role == RocksRole::State).then(Rows::new);
        Ok(Self { db: Arc::new(Db { rocks, full: AtomicBool::new(false), syncing: Mutex::new(()), rows }) })
    }
}

fn at(path: &Path, error: &rocksdb::Error) -> Fault {
    Fault::Io(io::Error::other(format!("{}: {error}", path.display())))
}

/// RocksDB's C interface tells what went wrong by the message alone.
fn fault(error: rocksdb::Error) -> Fault {
    let says = |what| error.as_ref().contains(what);
    let kind = if says(": No space left on device") {
        io::ErrorKind::StorageFull
    } else if says(": Disk quota exceeded") {
        io::ErrorKind::QuotaExceeded
    } else {
        io::ErrorKind::Other
    };
    Fault::Io(io::Error::new(kind, error))
}

/// Options for reading `range`, and where to begin.
fn reading(range: KeyRange, direction: Direction) -> (ReadOptions, IteratorMode<'static>) {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(range.from);
    if let Some(to) = range.to {
        options.set_iterate_upper_bound(to);
    }
    let mode = match direction {
        Direction::Ascending => IteratorMode::Start,
        Direction::Descending => IteratorMode::End,
    };
    (options, mode)
}

impl Read for RocksKeyspace {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let read = || self.db.rocks.get(key).map_err(fault);
        match &self.db.rows {
            Some(rows) => rows.get(key, rows.now(), read),
            None => read(),
        }
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let (options, mode) = reading(range, direction);
        let entries = self.db.rocks.iterator_opt(mode, options);
        Box::new(entries.map(|entry| entry.map(|(k, v)| (k.into_vec(), v.into_vec())).map_err(fault)))
    }
}

/// One consistent state of the database.
struct RocksView<'a> {
    snapshot: Snapshot<'a>,
    rows: Option<(&'a Rows, AsOf)>,
}

impl Read for RocksView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let read = || self.snapshot.get(key).map_err(fault);
        match self.rows {
            Some((rows, as_of)) => rows.get(key, as_of, read),
            None => read(),
        }
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let (options, mode) = reading(range, direction);
        let entries = self.snapshot.iterator_opt(mode, options);
        Box::new(entries.map(|entry| entry.map(|(k, v)| (k.into_vec(), v.into_vec())).map_err(fault)))
    }
}

impl Keyspace for RocksKeyspace {
    fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
        look(&self.db.view());
    }

    fn view_apart(self: Arc<Self>, look: Look) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            #[allow(
                clippy::disallowed_methods,
                reason = "RocksDB is the disk below the seam; simulations have their own"
            )]
            let looked = tokio::task::spawn_blocking(move || look(&self.db.view())).await;
            if looked.is_err() {
                tracing::error!("reading the database for a snapshot panicked");
            }
        })
    }

    fn write(&self, batch: Batch) -> Result<(), Fault> {
        let rows = batch.changes.iter();
        let bytes = rows.map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len) + ROW_BYTES).sum();
        let mut write = WriteBatch::with_capacity_bytes(bytes);
        for range in &batch.cleared {
            match &range.to {
                Some(to) if !range.is_empty() => write.delete_range(&range.from, to),
                Some(_) => {}
                // RocksDB's ranges need an end; keys here are far shorter than this.
                None => write.delete_range(range.from.as_slice(), &[u8::MAX; 64]),
            }
        }
        for (key, value) in &batch.changes {
            match value {
                Some(value) => write.put(key, value),
                None => write.delete(key),
            }
        }
        match &self.db.rows {
            Some(rows) => rows.write(&batch, || self.db.write(write)),
            None => self.db.write(write),
        }
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        let db = Arc::clone(&self.db);
        Box::pin(async move {
            // A sync takes milliseconds and must not hold up the tasks of this thread.
            #[allow(
                clippy::disallowed_methods,
                reason = "RocksDB is the disk below the seam; simulations have their own"
            )]
            let synced = tokio::task::spawn_blocking(move || db.sync()).await;
            match synced {
                Ok(result) => result,
                Err(join) => Err(Fault::Io(io::Error::other(join))),
            }
        })
    }
}

#[cfg(test)]
mod tests;
