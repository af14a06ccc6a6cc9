//! I-M5, within one node: purged ≤ snapshot ≤ applied ≤ committed ≤ last.

use super::Standing;
use crate::chronicle::Violation;

/// Look at where a node stands.
pub(crate) fn check(node: usize, standing: &Standing) -> Option<Violation> {
    let Standing { purged, snapshot, applied, committed, last, .. } = *standing;
    if purged <= snapshot && snapshot <= applied && applied <= committed && committed <= last {
        return None;
    }
    Some(Violation {
        invariant: "I-M5 (purged <= snapshot <= applied <= committed <= last)",
        subject: format!("node {node}"),
        expected: "indexes in this order".to_owned(),
        got: format!("{purged}, {snapshot}, {applied}, {committed}, {last}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_must_be_committed() {
        let good =
            Standing { purged: 1, snapshot: 1, applied: 4, committed: 4, last: 6, ..Standing::default() };
        assert!(check(0, &good).is_none());
        assert!(check(0, &Standing { applied: 5, ..good.clone() }).is_some());
        assert!(check(0, &Standing { purged: 2, ..good }).is_some());
    }
}
