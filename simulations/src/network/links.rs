//! Which nodes can reach which, direction by direction.
//!
//! turmoil's links know cut and whole, but crashing a host without a goodbye needs a cut of its own.
//! So the world keeps here what is meant to be cut, and tells turmoil again after each crash.

use std::collections::BTreeSet;

use turmoil::Sim;

use super::{Lan, host};

/// A direction: from one node to another.
pub(crate) type Way = (usize, usize);

/// The links between the nodes of a run.
pub(crate) struct Links {
    nodes: usize,
    cut: BTreeSet<Way>,
    lan: Lan,
}

impl Links {
    /// Everybody reaches everybody.
    pub(crate) fn whole(nodes: usize, lan: Lan) -> Self {
        Self { nodes, cut: BTreeSet::new(), lan }
    }

    /// Cut exactly `cut`, and heal everything else.
    pub(crate) fn set(&mut self, sim: &Sim<'_>, cut: BTreeSet<Way>) {
        for &(from, to) in cut.difference(&self.cut) {
            sim.partition_oneway(host(from), host(to));
        }
        for &(from, to) in self.cut.difference(&cut) {
            sim.repair_oneway(host(from), host(to));
        }
        self.lan.cut(cut.clone());
        self.cut = cut;
    }

    /// Cut or heal one direction.
    pub(crate) fn switch(&mut self, sim: &Sim<'_>, way: Way, cut: bool) {
        let mut ways = self.cut.clone();
        if cut {
            ways.insert(way);
        } else {
            ways.remove(&way);
        }
        self.set(sim, ways);
    }

    /// Nothing that leaves `node` arrives any more, neither at nodes nor at `others`.
    pub(crate) fn silence(&self, sim: &Sim<'_>, node: usize, others: &[&str]) {
        for other in (0..self.nodes).filter(|other| *other != node) {
            sim.partition(host(node), host(other));
        }
        others.iter().for_each(|other| sim.partition(host(node), *other));
    }

    /// Back to what is meant to be cut.
    pub(crate) fn restore(&self, sim: &Sim<'_>, node: usize, others: &[&str]) {
        for other in (0..self.nodes).filter(|other| *other != node) {
            sim.repair(host(node), host(other));
        }
        others.iter().for_each(|other| sim.repair(host(node), *other));
        for &(from, to) in self.cut.iter().filter(|(from, to)| *from == node || *to == node) {
            sim.partition_oneway(host(from), host(to));
        }
    }
}

/// Both directions between every node of `one` and every other node.
pub(crate) fn between(one: &BTreeSet<usize>, other: &BTreeSet<usize>) -> BTreeSet<Way> {
    let pairs = one.iter().flat_map(|one| other.iter().map(move |other| (*one, *other)));
    pairs.filter(|(one, other)| one != other).flat_map(|(one, other)| [(one, other), (other, one)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_cuts_both_directions_of_every_pair_across_it() {
        let cut = between(&BTreeSet::from([0]), &BTreeSet::from([1, 2]));
        assert_eq!(cut, BTreeSet::from([(0, 1), (1, 0), (0, 2), (2, 0)]));
    }
}
