//! I-M6: replicas that applied the same entries hold the same rows, byte for byte, whether they
//! applied them one by one, in groups, again after a crash, or were given a snapshot of them.

use std::collections::BTreeMap;

use crate::chronicle::Violation;

/// The digest of the state at each applied mark that any node ever wrote, and who wrote it first.
#[derive(Default)]
pub(crate) struct States(BTreeMap<Vec<u8>, (usize, u128)>);

impl States {
    /// The state of `node` has `digest` once it carries the applied mark `mark`.
    pub(crate) fn check(&mut self, node: usize, mark: &[u8], digest: u128) -> Option<Violation> {
        let (first, expected) = *self.0.entry(mark.to_vec()).or_insert((node, digest));
        (expected != digest).then(|| Violation {
            invariant: "I-M6 (equal index, equal state)",
            subject: format!("the catalog of node {node} at {}", short(mark)),
            expected: format!("{expected:032x}, as on node {first}"),
            got: format!("{digest:032x}"),
        })
    }
}

fn short(mark: &[u8]) -> String {
    mark.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_drifted_is_found() {
        let mut states = States::default();
        assert!(states.check(0, b"7", 1).is_none());
        assert!(states.check(1, b"8", 2).is_none());
        assert!(states.check(1, b"7", 1).is_none());
        assert!(states.check(2, b"8", 3).is_some());
    }
}
