//! Whose turn it is: for each piece, the order of sites, and of the nodes of this site.
//!
//! Highest random weight (rendezvous) hashing, so that nodes which know the same members agree without a
//! word, and a node that comes or goes moves only its own part.
//!
//! *Homes* are the sites of seeds. A piece goes from a home to one other site, its *entry*, from there to
//! the rest: the homes' uplinks carry one copy between them, however many sites there are.

use std::collections::{BTreeMap, BTreeSet};

use peerglass_catalog::NodeId;

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Pulls,
    Completed,
    Seed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Turns {
    me: NodeId,
    site: u64,
    members: BTreeMap<NodeId, (u64, Part)>,
    /// The others of this site that pull.
    rivals: Vec<NodeId>,
    homes: BTreeMap<u64, Vec<NodeId>>,
    /// Sites other than homes with nodes that pull, this one included.
    remotes: BTreeSet<u64>,
    /// Sites with nodes that can pass on.
    passing: BTreeSet<u64>,
}

/// Whom the node on duty for a piece may ask.
pub(super) struct Order {
    /// This seed, and nobody else.
    pub(super) seed: Option<NodeId>,
    /// Without one: nodes of these sites that are no seeds.
    pub(super) sites: BTreeSet<u64>,
}

impl Turns {
    pub(super) fn new(me: NodeId, site: u64) -> Self {
        let mut turns = Self {
            me,
            site,
            members: BTreeMap::new(),
            rivals: Vec::new(),
            homes: BTreeMap::new(),
            remotes: BTreeSet::new(),
            passing: BTreeSet::new(),
        };
        turns.settle();
        turns
    }

    pub(super) fn site(&self) -> u64 {
        self.site
    }

    pub(super) fn joined(&mut self, node: NodeId, site: u64) {
        self.members.insert(node, (site, Part::Pulls));
        self.settle();
    }

    pub(super) fn is_seed(&mut self, node: NodeId) {
        self.becomes(node, Part::Seed);
    }

    pub(super) fn completed(&mut self, node: NodeId) {
        self.becomes(node, Part::Completed);
    }

    pub(super) fn left(&mut self, node: NodeId) {
        self.members.remove(&node);
        self.settle();
    }

    fn becomes(&mut self, node: NodeId, part: Part) {
        if let Some(member) = self.members.get_mut(&node) {
            member.1 = part;
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.rivals.clear();
        self.homes.clear();
        self.passing.clear();
        let mut pulling = BTreeSet::from([self.site]);
        for (node, (site, part)) in &self.members {
            match part {
                Part::Seed => self.homes.entry(*site).or_default().push(*node),
                Part::Completed => drop(self.passing.insert(*site)),
                Part::Pulls => {
                    self.passing.insert(*site);
                    pulling.insert(*site);
                    if *site == self.site {
                        self.rivals.push(*node);
                    }
                }
            }
        }
        pulling.retain(|site| !self.homes.contains_key(site));
        self.remotes = pulling;
    }

    /// How many nodes of this site come before this one for the piece. 0: this one is on duty.
    pub(super) fn rank(&self, piece: usize) -> u8 {
        let mine = (mix(piece as u64, self.me.0), self.me);
        let before = self.rivals.iter().filter(|rival| (mix(piece as u64, rival.0), **rival) > mine).count();
        u8::try_from(before).unwrap_or(u8::MAX)
    }

    /// Whether a seed is at this site.
    pub(super) fn is_home(&self) -> bool {
        self.homes.contains_key(&self.site)
    }

    /// Whom to ask when on duty; `None` is whoever has it, because there is no seed.
    /// `has` says whether a seed can give the piece.
    pub(super) fn order(&self, piece: usize, has: impl Fn(NodeId) -> bool) -> Option<Order> {
        let of = |home: &u64| {
            let seeds = self.homes.get(home)?;
            let seed = first(piece, seeds.iter().copied().filter(|seed| has(*seed)))?;
            Some(Order { seed: Some(seed), sites: BTreeSet::new() })
        };
        if let Some(order) = of(&self.site) {
            return Some(order);
        }
        let mine = weight(piece, self.site);
        let before: BTreeSet<u64> =
            self.remotes.iter().copied().filter(|site| weight(piece, *site) > mine).collect();
        if !before.is_empty() {
            return Some(Order { seed: None, sites: before });
        }
        let home = self.homes.keys().copied().max_by_key(|site| weight(piece, *site))?;
        if self.passing.contains(&home) {
            return Some(Order { seed: None, sites: BTreeSet::from([home]) });
        }
        of(&home)
    }
}

fn first(piece: usize, nodes: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    nodes.max_by_key(|node| (mix(piece as u64, node.0), *node))
}

fn weight(piece: usize, site: u64) -> (u64, u64) {
    (mix(piece as u64 ^ 0x5174_6573, site), site)
}

/// A number that looks like chance and is the same everywhere: two rounds of the finaliser of `SplitMix64`
/// (Steele, Lea, Flood, 2014).
pub(super) fn mix(a: u64, b: u64) -> u64 {
    finalise(finalise(a.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ b)
}

fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
