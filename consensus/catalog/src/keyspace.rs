//! The ordered map of bytes that everything durable in a node is written to.
//!
//! The catalog, the Raft log and the chunk index all stand on the same small contract, so that one
//! simulated disk can lose, tear and rot the writes of all three and the code above it is the code
//! that ships. Production implements [`Keyspace`] with RocksDB; tests and simulations with
//! [`MemoryKeyspace`](crate::MemoryKeyspace).
//!
//! # What it promises
//!
//! * [`Keyspace::write`] is atomic: after a crash a batch is there whole or not at all, and if it
//!   is there, so is every batch written before it.
//! * A batch can be read as soon as `write` returns. It survives a power cut only once a
//!   [`Keyspace::sync`] that started later has returned `Ok`.
//! * After a failed `sync` nothing may be assumed about unsynced batches, and the caller must stop:
//!   the kernel may have dropped the dirty pages, so a second `sync` that succeeds proves nothing.
//! * Except that a full disk refuses: a `write` or `sync` that fails with
//!   [`StorageFull`](std::io::ErrorKind::StorageFull) did nothing and takes nothing back. It may be called
//!   again, and works again once there is room. Any other failure of a `write` is final, as that of a `sync`.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Entries in key order, read lazily.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, Fault>> + 'a>;

/// A future that may cross threads, for traits used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the map could not be read or written. The machine is at fault, never the request.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The disk refused: an operator has to act.
    #[error("disk: {0}")]
    Io(#[from] std::io::Error),
    /// A stored value does not decode. Guessing would let replicas diverge, so the node stops.
    #[error("stored {what} at key {key:02x?} is damaged")]
    Damaged {
        /// Which kind of record.
        what: &'static str,
        /// The key it was found under.
        key: Vec<u8>,
    },
}

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// A half-open range of keys: `from` is inside, `to` is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key inside.
    pub from: Vec<u8>,
    /// First key outside; `None` means to the end of the map.
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                return Self { from: prefix.to_vec(), to: Some(to) };
            }
        }
        Self { from: prefix.to_vec(), to: None }
    }

    /// Whether the range can hold no key at all.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// Whether `key` is inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && self.to.as_ref().is_none_or(|to| key < to.as_slice())
    }

    /// The range as the standard maps want it.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(self.from.as_slice()), to)
    }
}

/// One consistent state of the map.
pub trait Read {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// The entries of `range`, in key order.
    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_>;
}

/// Changes that take effect together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Ranges emptied before `changes` is applied.
    pub cleared: Vec<KeyRange>,
    /// What each key becomes; `None` removes it.
    pub changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    /// Set `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    /// Remove `key`, present or not.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// Remove every key of `range` that the batch does not itself put, in whatever order it says so.
    pub fn clear(&mut self, range: KeyRange) {
        self.cleared.push(range);
    }

    /// Whether writing it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.cleared.is_empty() && self.changes.is_empty()
    }
}

/// What is done with one state of the map, wherever.
pub type Look = Box<dyn FnOnce(&dyn Read) + Send>;

/// An ordered map of bytes on a disk. See the module for what callers rely on.
pub trait Keyspace: Read + Send + Sync + 'static {
    /// Run `look` on one state of the map, while others go on writing.
    fn view(&self, look: &mut dyn FnMut(&dyn Read));

    /// Run `look` on one state of the map where it may take long and hurts nobody, while others go on
    /// writing. `look` may write to the map itself.
    ///
    /// This works on a copy, which only maps in memory can afford.
    fn view_apart(self: Arc<Self>, look: Look) -> BoxFuture<'static, ()> {
        let mut copy = BTreeMap::new();
        self.view(&mut |read| {
            let everything = KeyRange { from: Vec::new(), to: None };
            copy.extend(read.scan(everything, Direction::Ascending).filter_map(Result::ok));
        });
        look(&copy);
        Box::pin(std::future::ready(()))
    }

    /// Make `batch` readable, atomically.
    fn write(&self, batch: Batch) -> Result<(), Fault>;

    /// Make everything written before this call survive a power cut.
    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>>;
}

/// Run `look` on one consistent state of `keyspace` and hand back what it found.
pub fn look<T>(keyspace: &dyn Keyspace, look: impl FnOnce(&dyn Read) -> T) -> T {
    let mut look = Some(look);
    let mut found = None;
    keyspace.view(&mut |read| {
        if let Some(look) = look.take() {
            found = Some(look(read));
        }
    });
    found.expect("a view runs its argument exactly once")
}
