//! Which nodes should vote: a pure choice.
//!
//! An operator says how many voters he wants; nodes that may vote are promoted until there are that
//! many, those first whose site has the fewest voters, then whose rack has. An even number of voters
//! bears no more losses than the odd number below it, so promotions come in such numbers that the count
//! ends odd. Once there are as many as wanted, a voter is exchanged for a follower where that spreads the
//! same number over more sites, or over more racks.

use std::collections::{BTreeMap, BTreeSet};

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

/// A voter and the follower to vote in its place, if that spreads the voters better. Never `leader`: its
/// site has another voter to give, or it would not be crowded. One that does not answer goes first.
pub(crate) fn exchange(
    nodes: &[(u64, NodeEntry)],
    voters: &BTreeSet<u64>,
    ready: &BTreeSet<u64>,
    leader: u64,
) -> Option<(u64, u64)> {
    let places: BTreeMap<u64, (&str, &str)> =
        nodes.iter().map(|(node, entry)| (*node, (entry.site.as_str(), entry.rack.as_str()))).collect();
    let crowding = |voting: &BTreeSet<u64>| {
        let (mut sites, mut racks) = (BTreeMap::new(), BTreeMap::new());
        for (site, rack) in voting.iter().filter_map(|node| places.get(node)) {
            *sites.entry(site).or_insert(0_u64) += 1;
            *racks.entry((site, rack)).or_insert(0_u64) += 1;
        }
        let squares = |count: &u64| count * count;
        (sites.values().map(squares).sum::<u64>(), racks.values().map(squares).sum::<u64>())
    };
    // Of one rack, one is as good as another: a fleet has many nodes and few racks.
    let mut candidates: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (node, entry) in nodes {
        if entry.role == NodeRole::Voter && !voters.contains(node) && ready.contains(node) {
            candidates.entry((&entry.site, &entry.rack)).or_insert(*node);
        }
    }
    let leaving = voters.iter().copied().filter(|voter| *voter != leader);
    let pairs = leaving.flat_map(|out| candidates.values().map(move |into| (out, *into)));
    let best = pairs.map(|(out, into)| {
        let mut voting = voters.clone();
        voting.remove(&out);
        voting.insert(into);
        (crowding(&voting), ready.contains(&out), out, into)
    });
    let (crowded, _, out, into) = best.min()?;
    (crowded < crowding(voters)).then_some((out, into))
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

    /// Three voters of one site move out of it as other sites come, one at a time, and then stay.
    #[test]
    fn voters_move_to_sites_that_come_later() {
        let nodes = [node(1, "a"), node(2, "a"), node(3, "a"), node(4, "b"), node(5, "c")];
        let ready = ids(&[1, 2, 3, 4, 5]);
        assert_eq!(exchange(&nodes, &ids(&[1, 2, 3]), &ready, 2), Some((1, 4)), "the leader stays");
        assert_eq!(
            exchange(&nodes, &ids(&[1, 2, 3]), &ids(&[1, 2, 4]), 2),
            Some((3, 4)),
            "the silent one goes"
        );
        assert_eq!(exchange(&nodes, &ids(&[2, 3, 4]), &ready, 2), Some((3, 5)));
        assert_eq!(exchange(&nodes, &ids(&[2, 4, 5]), &ready, 2), None, "nothing to gain");
        assert_eq!(exchange(&nodes, &ids(&[1, 2, 3]), &ids(&[1, 2, 3]), 1), None, "nobody is ready");
        let mut learners = nodes.clone();
        learners[3].1.role = NodeRole::Learner;
        learners[4].1.role = NodeRole::Learner;
        assert_eq!(exchange(&learners, &ids(&[1, 2, 3]), &ready, 1), None, "nobody may vote");
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
