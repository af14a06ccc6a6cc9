//! Replicas agree, however their commands were grouped and whether they replayed or were restored.

use peerglass_catalog::testing::populate;
use peerglass_catalog::{Keyspace, MemoryKeyspace, keyspace, snapshot};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// I-M6: what a replica holds does not depend on how many commands it applied at a time.
    #[test]
    fn grouping_changes_nothing(seed: u64, group in 1usize..40) {
        let (one, many) = (MemoryKeyspace::new(), MemoryKeyspace::new());
        populate(&one, seed, 120, 1);
        populate(&many, seed, 120, group);
        prop_assert_eq!(one.entries(), many.entries());
    }

    /// I-M7: a snapshot restored is the catalog it was taken of, indexes included.
    #[test]
    fn a_restored_snapshot_is_the_catalog(seed: u64) {
        let original = MemoryKeyspace::new();
        populate(&original, seed, 120, 7);
        let bytes = taken_of(&original);
        let restored = MemoryKeyspace::new();
        snapshot::restore(&mut &bytes[..], &mut |batch| restored.write(batch)).unwrap();
        prop_assert_eq!(original.entries(), restored.entries());
    }

    /// F-D6, F-D10: one bit flipped or any part missing is noticed before the snapshot is believed.
    #[test]
    fn a_damaged_snapshot_is_refused(seed: u64, at: prop::sample::Index, bit in 0u8..8, cut: bool) {
        let original = MemoryKeyspace::new();
        populate(&original, seed, 40, 7);
        let mut bytes = taken_of(&original);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        let nowhere = MemoryKeyspace::new();
        prop_assert!(snapshot::restore(&mut &bytes[..], &mut |batch| nowhere.write(batch)).is_err());
    }
}

fn taken_of(keyspace: &MemoryKeyspace) -> Vec<u8> {
    let mut bytes = Vec::new();
    keyspace::look(keyspace, |read| snapshot::write(read, &mut bytes)).unwrap();
    bytes
}
