//! Machines that go down and come up again.

use std::time::Duration;

use turmoil::Sim;

use super::World;
use super::berth::Berth;
use crate::disk::CrashKind;
use crate::network::host;

impl World {
    /// Take every node down whose power is gone or that ended, and up again some time later.
    pub(super) fn mind_power(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        for node in 0..self.berths.len() {
            match self.down_until[node] {
                Some(until) if now >= until => {
                    self.down_until[node] = None;
                    sim.bounce(host(node));
                }
                Some(_) => {}
                None => {
                    if let Some(kind) = self.berths[node].is_over(now) {
                        self.crash(sim, node, kind);
                    }
                }
            }
        }
    }

    /// Take `node` down now, unless it is down already.
    pub(super) fn crash(&mut self, sim: &mut Sim<'_>, node: usize, kind: CrashKind) {
        if self.down_until[node].is_some() {
            return;
        }
        // The disks first: what the dying tasks do when they are dropped reaches nothing any more.
        if self.berths[node].crash(kind) {
            self.watch.forget(node);
        }
        // Nor do goodbyes reach anybody. A machine that loses power sends none, and the order in which
        // tokio drops tasks depends on how many it ran before in this process.
        self.links.silence(sim, node, &self.listeners);
        sim.crash(host(node));
        self.links.restore(sim, node, &self.listeners);
        self.scene.crashes.count(node);
        self.down_until[node] = Some(sim.elapsed() + self.berths[node].downtime());
    }

    /// A leader may lose power just when a follower hears of other voters, and stay off for long: each of
    /// them then has to tell who may lead from what its own disk holds (F-C4).
    pub(super) fn mind_change(&mut self, sim: &mut Sim<'_>) {
        if !self.watch.heard_of_change() || self.plan.change_cuts == 0 || !self.changing.chance(700) {
            return;
        }
        let Some(leader) = self.watch.leader().filter(|leader| self.down_until[*leader].is_none()) else {
            return;
        };
        self.plan.change_cuts -= 1;
        self.scene.chronicle.count("F-C4 leader lost power in a change of voters");
        self.crash(sim, leader, CrashKind::PowerCut);
        // Sometimes long enough for others to elect somebody.
        let off = Duration::from_millis(self.changing.between(1, 6_000));
        self.down_until[leader] = Some(sim.elapsed() + off);
    }

    /// All nodes lose power at one instant.
    pub(super) fn black_out(&mut self, sim: &mut Sim<'_>) {
        if self.berths.len() > 1 {
            self.scene.chronicle.count("F-P4 power cut of all nodes at once");
        }
        for node in 0..self.berths.len() {
            self.crash(sim, node, CrashKind::PowerCut);
        }
        if self.plan.moves {
            self.scene.chronicle.count("F-N9 all nodes came back at other addresses");
            self.berths.iter().for_each(Berth::move_on);
        }
    }
}
