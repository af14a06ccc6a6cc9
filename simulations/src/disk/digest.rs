//! A digest of a map that follows each change, so that replicas can be compared at every step.

use std::collections::BTreeMap;

use peerglass_catalog::keyspace::{Batch, KeyRange};

/// Where a state keeps how far it is.
pub(crate) const APPLIED: &[u8] = b"#applied";
/// Snapshots on their way in or out are kept beside the state and are no part of it.
const SPOOLS: &[u8] = b"#s";
const INSTALLING: &[u8] = b"#installing";

/// The sum of the digests of all rows: the same in whatever order they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapDigest(u128);

impl MapDigest {
    pub(crate) fn of(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        Self(map.iter().fold(0, |sum, (key, value)| sum.wrapping_add(row(key, value))))
    }

    /// `batch` is about to be applied to `map`.
    pub(crate) fn follow(&mut self, map: &BTreeMap<Vec<u8>, Vec<u8>>, batch: &Batch) {
        let cleared = |key: &[u8]| batch.cleared.iter().any(|range| contains(range, key));
        for range in batch.cleared.iter().filter(|range| !range.is_empty()) {
            for (key, value) in map.range::<[u8], _>(range.bounds()) {
                self.0 = self.0.wrapping_sub(row(key, value));
            }
        }
        for (key, value) in &batch.changes {
            if let Some(old) = map.get(key).filter(|_| !cleared(key)) {
                self.0 = self.0.wrapping_sub(row(key, old));
            }
            if let Some(new) = value {
                self.0 = self.0.wrapping_add(row(key, new));
            }
        }
    }

    pub(crate) fn value(self) -> u128 {
        self.0
    }
}

fn contains(range: &KeyRange, key: &[u8]) -> bool {
    range.from.as_slice() <= key && range.to.as_ref().is_none_or(|to| key < to.as_slice())
}

fn row(key: &[u8], value: &[u8]) -> u128 {
    if key == APPLIED || key == INSTALLING || key.starts_with(SPOOLS) {
        return 0;
    }
    let mut hash = blake3::Hasher::new();
    hash.update(&(key.len() as u64).to_le_bytes()).update(key).update(value);
    let mut first = [0; 16];
    hash.finalize_xof().fill(&mut first);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use peerglass_catalog::apply_batch;

    use super::*;
    use crate::dice::Dice;

    /// Following must come to the same as counting anew, or a false alarm hides the real ones.
    #[test]
    fn a_digest_that_follows_is_the_digest_of_the_map() {
        let mut dice = Dice::new(1, "digest");
        let (mut map, mut digest) = (BTreeMap::new(), MapDigest::default());
        for _ in 0..500 {
            let mut batch = Batch::default();
            if dice.chance(200) {
                let from = dice.below(20) as u8;
                let to = dice.chance(500).then(|| vec![from + dice.below(5) as u8]);
                batch.cleared.push(KeyRange { from: vec![from], to });
                batch.cleared.retain(|range| !range.is_empty());
                batch.cleared.truncate(1);
            }
            for _ in 0..dice.below(5) {
                let key = vec![dice.below(20) as u8];
                match dice.chance(600) {
                    true => batch.put(key, vec![dice.below(3) as u8]),
                    false => batch.remove(key),
                }
            }
            digest.follow(&map, &batch);
            apply_batch(&mut map, batch);
            assert_eq!(digest, MapDigest::of(&map));
        }
    }
}
