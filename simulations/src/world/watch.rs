//! What holds at every step of a cluster: the core promises of Raft (I-M5).

use crate::chronicle::Chronicle;
use crate::invariants::one_leader::Leaders;
use crate::invariants::{Standing, log_order, never_back};

/// What was seen of the nodes so far.
pub(super) struct Watch {
    chronicle: Chronicle,
    leaders: Leaders,
    /// By node: in which life it was seen, and where it stood.
    seen: Vec<Option<(u64, Standing)>>,
    up: Vec<bool>,
    /// A follower has other voters than before, and nobody took note of that yet.
    heard_of_change: bool,
}

impl Watch {
    pub(super) fn new(nodes: usize, chronicle: Chronicle) -> Self {
        let (seen, up) = (vec![None; nodes], vec![false; nodes]);
        Self { chronicle, leaders: Leaders::default(), seen, up, heard_of_change: false }
    }

    /// `node` stands there now, in its life `life`.
    pub(super) fn look(&mut self, node: usize, life: u64, now: Standing) {
        self.up[node] = true;
        if self.seen[node].as_ref().is_some_and(|(seen, before)| *seen == life && *before == now) {
            return;
        }
        let before = self.seen[node].take();
        // A node that came back without its disk is another one under the old name.
        let before = before.filter(|(_, before)| before.node == now.node);
        if let Some((_, before)) = &before {
            self.count_changes(before, &now);
            self.heard_of_change |= before.voters != now.voters && now.leader != Some(now.node);
        }
        let went_back =
            before.as_ref().and_then(|(seen, before)| never_back::check(node, before, &now, *seen == life));
        let broken = went_back.or_else(|| log_order::check(node, &now)).or_else(|| self.leaders.check(&now));
        if let Some(violation) = broken {
            self.chronicle.violate(violation);
        }
        self.seen[node] = Some((life, now));
    }

    /// `node` is down.
    pub(super) fn gone(&mut self, node: usize) {
        self.up[node] = false;
    }

    /// Which node leads, if one says so that is up. The newest leader, if there are two.
    pub(super) fn leader(&self) -> Option<usize> {
        let leading = self.seen.iter().enumerate().filter(|(node, _)| self.up[*node]);
        let leading = leading.filter_map(|(node, seen)| seen.as_ref().map(|(_, standing)| (node, standing)));
        let leading = leading.filter(|(_, standing)| standing.leader == Some(standing.node));
        leading.max_by_key(|(_, standing)| standing.term).map(|(node, _)| node)
    }

    /// Whether a follower got to know of other voters since this was asked last.
    pub(super) fn heard_of_change(&mut self) -> bool {
        std::mem::take(&mut self.heard_of_change)
    }

    /// Whether `node` leads or led last, as far as anybody says. A node that stops in order is not asked any
    /// more, and may lead while it stops.
    pub(super) fn led(&self, node: usize) -> bool {
        let Some((_, of_node)) = &self.seen[node] else { return false };
        let newest = self.seen.iter().flatten().map(|(_, standing)| standing.term).max();
        let mut last = self.seen.iter().flatten().filter(|(_, standing)| Some(standing.term) == newest);
        last.any(|(_, standing)| standing.leader == Some(of_node.node))
    }

    /// The machine of `node` got another disk: what it stood for is gone.
    pub(super) fn forget(&mut self, node: usize) {
        self.seen[node] = None;
    }

    /// The last entry that `node` knew to be committed when it was last seen, 0 for none.
    pub(super) fn committed(&self, node: usize) -> u64 {
        self.seen[node].as_ref().map_or(0, |(_, standing)| standing.committed)
    }

    /// How many terms had a leader.
    pub(super) fn terms(&self) -> u64 {
        self.leaders.terms()
    }

    fn count_changes(&self, before: &Standing, now: &Standing) {
        let leads = |standing: &Standing| standing.leader == Some(standing.node);
        if leads(before) && !leads(now) {
            self.chronicle.count("F-C1 leader deposed");
        }
        if before.voters != now.voters {
            self.chronicle.count("F-C2 voters changed");
        }
        if before.purged < now.purged {
            self.chronicle.count("F-C7 log purged");
        }
        if now.snapshot > before.snapshot && now.purged > before.last {
            self.chronicle.count("F-C7 snapshot installed");
        }
    }
}
