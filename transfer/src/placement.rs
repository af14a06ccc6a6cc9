//! Which nodes are to keep a manifest: its *homes*.
//!
//! A pure function of a name and of the nodes with their places. Every node that has a score,
//! drawn from the name and its id, is better or worse for it than others (rendezvous hashing).
//! First come the best nodes of each site, then the best of each rack that has none yet, then the rest.
//!
//! # What it promises
//!
//! * The same on every node that knows the same nodes, in whatever order it knows them.
//! * As many homes as there are replicas wanted, or all nodes; over as many sites as that allows, and within
//!   that over as many racks.
//! * The homes for fewer replicas are the first of those for more.
//! * One node more or less makes at most one home another one.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use peerglass_catalog::{Digest, NodeId};

use crate::peers::Place;

/// The homes of what is called `name` among `nodes`, the most important one first.
pub fn homes(name: &Digest, nodes: &[(NodeId, Place)], replicas: usize) -> Vec<NodeId> {
    let mut ranked: Vec<_> = nodes.iter().map(|(node, place)| (score(name, *node), *node, place)).collect();
    ranked.sort_unstable_by_key(|(score, node, _)| (Reverse(*score), *node));
    ranked.dedup_by_key(|(_, node, _)| *node);
    let (mut sites, mut racks) = (BTreeSet::new(), BTreeSet::new());
    // The best node of a site is the best one of its rack as well.
    let width = |place: &Place| match (sites.insert(place.site.clone()), racks.insert(place.clone())) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    let widths: Vec<u8> = ranked.iter().map(|(_, _, place)| *place).map(width).collect();
    let mut order: Vec<_> = widths.into_iter().zip(ranked).collect();
    // Stable: within one width the best stays first.
    order.sort_by_key(|(width, _)| *width);
    order.into_iter().take(replicas).map(|(_, (_, node, _))| node).collect()
}

/// How good a node is for a name.
fn score(name: &Digest, node: NodeId) -> u64 {
    let mut text = [0; 40];
    text[..32].copy_from_slice(&name.0);
    text[32..].copy_from_slice(&node.0.to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(&text).0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(seed: u64) -> Digest {
        Digest::of(&seed.to_be_bytes())
    }

    fn place(site: u8, rack: u8) -> Place {
        Place { site: format!("s{site}"), rack: format!("r{rack}") }
    }

    fn nodes() -> impl Strategy<Value = Vec<(NodeId, Place)>> {
        let places = prop::collection::btree_map(0..1_000_u64, (0..4_u8, 0..3_u8), 1..14);
        places.prop_map(|places| {
            places.into_iter().map(|(id, (site, rack))| (NodeId(id), place(site, rack))).collect()
        })
    }

    /// Those of `nodes` that are homes, as sites and as racks.
    fn spread(nodes: &[(NodeId, Place)], of: &[NodeId]) -> (usize, usize) {
        let places = nodes.iter().filter(|(node, _)| of.contains(node)).map(|(_, place)| place.clone());
        let racks: BTreeSet<Place> = places.collect();
        let sites: BTreeSet<&String> = racks.iter().map(|place| &place.site).collect();
        (sites.len(), racks.len())
    }

    proptest! {
        #[test]
        fn as_many_as_wanted_as_wide_as_can_be_and_the_same_for_everybody(
            nodes in nodes(),
            seed: u64,
            replicas in 0..18_usize,
        ) {
            let found = homes(&name(seed), &nodes, replicas);
            let distinct: BTreeSet<_> = found.iter().collect();
            prop_assert_eq!(distinct.len(), found.len());
            prop_assert_eq!(found.len(), replicas.min(nodes.len()));
            let all: Vec<NodeId> = nodes.iter().map(|(node, _)| *node).collect();
            let (sites, racks) = spread(&nodes, &all);
            prop_assert_eq!(spread(&nodes, &found), (sites.min(found.len()), racks.min(found.len())));
            let backwards: Vec<_> = nodes.iter().rev().cloned().collect();
            prop_assert_eq!(&homes(&name(seed), &backwards, replicas), &found);
            let more = homes(&name(seed), &nodes, replicas + 1);
            prop_assert!(more.starts_with(&found));
        }

        #[test]
        fn one_node_more_or_less_moves_at_most_one_home(
            nodes in nodes(),
            seed: u64,
            replicas in 1..6_usize,
            at: prop::sample::Index,
        ) {
            let with: BTreeSet<_> = homes(&name(seed), &nodes, replicas).into_iter().collect();
            let mut fewer = nodes.clone();
            let (gone, _) = fewer.remove(at.index(nodes.len()));
            let without: BTreeSet<_> = homes(&name(seed), &fewer, replicas).into_iter().collect();
            prop_assert!(with.difference(&without).count() <= 1);
            prop_assert!(without.difference(&with).count() <= 1);
            if !with.contains(&gone) {
                // It may have been the best of its site and yet not good enough, but it kept nobody out.
                prop_assert_eq!(without, with);
            }
        }
    }

    /// Nodes of equal places keep about the same number of manifests.
    #[test]
    fn the_load_is_even() {
        let nodes: Vec<_> = (0..5).map(|id| (NodeId(id), Place::default())).collect();
        let mut load = [0; 5];
        for seed in 0..5_000 {
            for home in homes(&name(seed), &nodes, 2) {
                load[home.0 as usize] += 1;
            }
        }
        assert!(load.iter().all(|count| (1_800..2_200).contains(count)), "{load:?}");
    }
}
