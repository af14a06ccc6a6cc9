//! Which nodes should vote: a pure choice.
//!
//! An operator says how many voters he wants; nodes that may vote are promoted until there are that
//! many, those first whose site has the fewest voters, then whose rack has. An even number of voters
//! bears no more losses than the odd number below it, so promotions come in such numbers that the count
//! ends odd. Nobody is demoted by this.

use std::collections::BTreeSet;

use peerglass_catalog::{NodeEntry, NodeRole};

/// Nodes to promote together, to come closer to `wanted` voters. `ready` are the learners that have
/// caught up.
pub(crate) fn promotions(
    nodes: &[(u64, NodeEntry)],
    voters: &BTreeSet<u64>,
    ready: &BTreeSet<u64>,
    wanted: usize,
) -> Vec<u64> {
    let mut chosen: Vec<u64> = Vec::new();
    let mut candidates: Vec<&(u64, NodeEntry)> = nodes
        .iter()
        .filter(|(node, entry)| {
            entry.role == NodeRole::Voter && !voters.contains(node) && ready.contains(node)
        })
        .collect();
    while voters.len() + chosen.len() < wanted && !candidates.is_empty() {
        let crowd = |same: &dyn Fn(&NodeEntry) -> bool| {
            let votes = |node: &u64| voters.contains(node) || chosen.contains(node);
            nodes.iter().filter(|(node, entry)| votes(node) && same(entry)).count()
        };
        let best = candidates.iter().enumerate().min_by_key(|(_, (node, entry))| {
            let site = crowd(&|other| other.site == entry.site);
            let rack = crowd(&|other| other.site == entry.site && other.rack == entry.rack);
            (site, rack, *node)
        });
        let Some((at, _)) = best else { break };
        chosen.push(candidates.remove(at).0);
    }
    if (voters.len() + chosen.len()).is_multiple_of(2) {
        chosen.pop();
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, site: &str) -> (u64, NodeEntry) {
        (id, NodeEntry { site: site.to_owned(), ..NodeEntry::default() })
    }

    fn ids(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    #[test]
    fn voters_are_spread_over_sites() {
        let nodes = [node(1, "a"), node(2, "a"), node(3, "a"), node(4, "b"), node(5, "c")];
        assert_eq!(promotions(&nodes, &ids(&[1]), &ids(&[2, 3, 4, 5]), 3), [4, 5]);
        let five = promotions(&nodes, &ids(&[1]), &ids(&[2, 3, 4, 5]), 5);
        assert_eq!(five, [4, 5, 2, 3]);
    }

    /// Two voters bear no loss, as one does, and need both to write.
    #[test]
    fn the_count_ends_odd() {
        let nodes = [node(1, ""), node(2, ""), node(3, "")];
        assert_eq!(promotions(&nodes, &ids(&[1]), &ids(&[2]), 3), [0u64; 0]);
        assert_eq!(promotions(&nodes, &ids(&[1]), &ids(&[2, 3]), 3), [2, 3]);
        assert_eq!(promotions(&nodes, &ids(&[1, 2]), &ids(&[3]), 3), [3], "one was removed");
        assert_eq!(promotions(&nodes, &ids(&[1, 2, 3]), &ids(&[]), 3), [0u64; 0]);
    }

    #[test]
    fn learners_by_role_and_nodes_that_lag_are_left_out() {
        let mut nodes = [node(1, ""), node(2, ""), node(3, ""), node(4, "")];
        nodes[1].1.role = NodeRole::Learner;
        assert_eq!(promotions(&nodes, &ids(&[1]), &ids(&[2, 3]), 3), [0u64; 0]);
        assert_eq!(promotions(&nodes, &ids(&[1]), &ids(&[2, 3, 4]), 3), [3, 4]);
    }
}
