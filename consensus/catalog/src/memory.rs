//! A [`Keyspace`] in memory, for tests and as the floor of the simulated disk.
//!
//! It keeps nothing across restarts and its `sync` succeeds at once; what a disk loses is modelled
//! by whoever wraps it.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::keyspace::{Batch, BoxFuture, Direction, Entries, Fault, KeyRange, Keyspace, Read};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// An ordered map of bytes that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryKeyspace {
    map: RwLock<Map>,
}

impl MemoryKeyspace {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of every entry, in key order.
    pub fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.locked().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    // A panic while the lock was held cannot leave half a batch behind that another reader would
    // trust: the process that panics in a write path stops. So poisoning carries no news.
    fn locked(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked_to_write(&self) -> RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carry `batch` out on a plain map.
pub fn apply_batch(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: Batch) {
    for range in &batch.cleared {
        if range.is_empty() {
            continue;
        }
        let keys: Vec<_> = map.range::<[u8], _>(range.bounds()).map(|(key, _)| key.clone()).collect();
        for key in keys {
            map.remove(&key);
        }
    }
    for (key, value) in batch.changes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

impl Read for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let entries =
            self.range::<[u8], _>(range.bounds()).map(|(key, value)| Ok((key.clone(), value.clone())));
        match direction {
            Direction::Ascending => Box::new(entries),
            Direction::Descending => Box::new(entries.rev()),
        }
    }
}

impl Read for MemoryKeyspace {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.locked().get(key).cloned())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        // Copied out, because an iterator may not outlive the lock. Callers that read much use
        // `view`, which holds the lock and iterates in place.
        let found: Vec<_> = self.locked().scan(range, direction).collect();
        Box::new(found.into_iter())
    }
}

impl Keyspace for MemoryKeyspace {
    fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
        look(&*self.locked());
    }

    fn write(&self, batch: Batch) -> Result<(), Fault> {
        apply_batch(&mut self.locked_to_write(), batch);
        Ok(())
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
