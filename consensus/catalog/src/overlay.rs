//! Changes laid over a state, so that one command reads what the one before it wrote.
//!
//! Consensus applies many commands with one write: each works on the overlay, and the batch that
//! comes out is written together with the index of the last of them.

use std::iter::Peekable;

use crate::keyspace::{Batch, Direction, Entries, Entry, Fault, KeyRange, Read};

/// A state with changes that are not written yet.
pub struct Overlay<'a> {
    base: &'a dyn Read,
    batch: Batch,
}

impl<'a> Overlay<'a> {
    /// `base` without any change.
    pub fn new(base: &'a dyn Read) -> Self {
        Self { base, batch: Batch::default() }
    }

    /// Set `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.batch.put(key, value);
    }

    /// Remove `key`, present or not.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.batch.remove(key);
    }

    /// The changes, to be written together.
    pub fn into_batch(self) -> Batch {
        self.batch
    }
}

impl Read for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match self.batch.changes.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let changed = self.batch.changes.range::<[u8], _>(range.bounds());
        let changed: Changes<'_> = match direction {
            Direction::Ascending => Box::new(changed),
            Direction::Descending => Box::new(changed.rev()),
        };
        Box::new(Merge {
            base: self.base.scan(range, direction).peekable(),
            changes: changed.peekable(),
            direction,
        })
    }
}

type Change<'a> = (&'a Vec<u8>, &'a Option<Vec<u8>>);
type Changes<'a> = Box<dyn Iterator<Item = Change<'a>> + 'a>;

/// Two streams in the same order; where both have a key, the change wins.
struct Merge<'a> {
    base: Peekable<Entries<'a>>,
    changes: Peekable<Changes<'a>>,
    direction: Direction,
}

impl Iterator for Merge<'_> {
    type Item = Result<Entry, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.base.peek(), self.changes.peek()) {
                (None, None) => return None,
                (Some(Err(_)) | Some(Ok(_)), None) => return self.base.next(),
                (Some(Err(_)), Some(_)) => return self.base.next(),
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(Ok((base, _))), Some((changed, _))) => match self.direction {
                    Direction::Ascending => base.cmp(changed),
                    Direction::Descending => (*changed).cmp(base),
                },
            };
            if order.is_lt() {
                return self.base.next();
            }
            if order.is_eq() {
                self.base.next();
            }
            if let Some((key, Some(value))) = self.changes.next() {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keyspace::Keyspace;
    use crate::memory::{MemoryKeyspace, apply_batch};

    proptest! {
        /// Whatever is laid over whatever, reading the overlay is reading the written result.
        #[test]
        fn reads_as_if_written(
            base in prop::collection::btree_map(prop::collection::vec(0u8..4, 0..3), prop::collection::vec(0u8..4, 0..2), 0..12),
            changes in prop::collection::btree_map(prop::collection::vec(0u8..4, 0..3), prop::option::of(prop::collection::vec(0u8..4, 0..2)), 0..12),
            prefix in prop::collection::vec(0u8..4, 0..2),
            ascending in any::<bool>(),
        ) {
            let keyspace = MemoryKeyspace::new();
            keyspace.write(Batch { cleared: vec![], changes: base.clone().into_iter().map(|(k, v)| (k, Some(v))).collect() }).unwrap();
            let mut overlay = Overlay::new(&keyspace);
            for (key, value) in &changes {
                match value {
                    Some(value) => overlay.put(key.clone(), value.clone()),
                    None => overlay.remove(key.clone()),
                }
            }
            let direction = if ascending { Direction::Ascending } else { Direction::Descending };
            let seen: Vec<_> = overlay.scan(KeyRange::prefix(&prefix), direction).map(Result::unwrap).collect();
            let mut written = base;
            apply_batch(&mut written, Batch { cleared: vec![], changes });
            let expected: Vec<_> = written.scan(KeyRange::prefix(&prefix), direction).map(Result::unwrap).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
