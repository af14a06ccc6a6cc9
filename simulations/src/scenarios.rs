//! Named situations. Each seed draws one, and within it how much of everything.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::dice::Dice;
use crate::disk::CrashKind;
use crate::network::Conditions;

/// What kind of trouble a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// No fault but one power cut at the end (SC-02).
    Calm,
    /// Crashes at drawn disk operations and times.
    Crashes,
    /// Crashes soon after the start, so that recovery itself is interrupted (F-P2).
    CrashLoop,
    /// Packs find no room for a while (SC-16).
    FullDisk,
    /// Syncs, reads and writes fail now and then.
    FailingDisk,
    /// A bit of all.
    Mixed,
}

const SCENARIOS: [Scenario; 10] = [
    Scenario::Calm,
    Scenario::Crashes,
    Scenario::Crashes,
    Scenario::Crashes,
    Scenario::CrashLoop,
    Scenario::FullDisk,
    Scenario::FailingDisk,
    Scenario::FailingDisk,
    Scenario::Mixed,
    Scenario::Mixed,
];

/// What can happen to a cluster that cannot happen to a lone node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// The nodes fall into two groups that cannot reach each other (F-N4).
    Split,
    /// Some links carry in one direction only (SC-21).
    OneWay,
    /// Two groups, and one node that sees both (SC-22).
    Bridge,
    /// One node reaches nobody.
    Isolate,
    /// The leader reaches nobody (SC-04).
    IsolateLeader,
    /// One link goes up and down (F-N7).
    Flap,
    /// Links stop one by one and come back in another order (F-N5).
    Swizzle,
    /// Datagrams are lost, doubled, damaged, delayed (F-N1, F-N2, F-N3, F-N8).
    BadWeather,
    /// One node crashes (F-P1).
    Crash,
    /// The leader crashes (SC-01).
    CrashLeader,
    /// All nodes lose power at one instant (F-P4).
    Blackout,
    /// Every node is restarted, one after the other (F-P5).
    RollingRestart,
    /// A node's wall clock jumps by years (F-T1).
    ClockJump,
}

const TROUBLES: [Trouble; 13] = [
    Trouble::Split,
    Trouble::OneWay,
    Trouble::Bridge,
    Trouble::Isolate,
    Trouble::IsolateLeader,
    Trouble::Flap,
    Trouble::Swizzle,
    Trouble::BadWeather,
    Trouble::Crash,
    Trouble::CrashLeader,
    Trouble::Blackout,
    Trouble::RollingRestart,
    Trouble::ClockJump,
];

/// How a machine loses what its disks held (F-D11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swap {
    /// New disks.
    Empty,
    /// The disks as they were some time before.
    Old,
    /// New ones, after an operator has removed the node (F-C3).
    Removed,
}

/// A node that lies to those who fetch from it (F-B1, F-B2, F-B4, F-B9).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liar {
    pub(crate) node: usize,
    /// Of 1,000 answers, so many are lies.
    pub(crate) per_mille: u64,
    /// It goes on when all other faults have ended. Not where an honest copy may have been lost with a disk: the last
    /// one might be the liar's.
    pub(crate) to_the_end: bool,
}

/// Cluster sizes, as often as they are drawn: what holds for a lone node stays tested.
const NODES: &[usize] = &[1, 1, 1, 1, 3, 3, 3, 3, 5, 7];

/// Everything about a run that is drawn before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    /// How many machines there are.
    pub(crate) nodes: usize,
    /// How many of them vote.
    pub(crate) voters: u32,
    /// Nodes whose disks fail, if disks fail at all: all of a lone node, a minority of a cluster.
    pub(crate) failing: BTreeSet<usize>,
    /// What happens to the cluster; nothing to a lone node.
    pub(crate) troubles: Vec<Trouble>,
    /// What happens to the disks of one node of a cluster.
    pub(crate) swap: Option<(usize, Swap)>,
    /// Who lies.
    pub(crate) liar: Option<Liar>,
    /// How many changes of the membership operators make, each of them.
    pub(crate) changes: Vec<u64>,
    /// How often a leader loses power just when a follower hears of other voters.
    pub(crate) change_cuts: u64,
    /// Longest pause between two troubles.
    pub(crate) trouble_interval_ms: u64,
    /// The network on a normal day.
    pub(crate) weather: Conditions,
    /// Whether nodes look for each other on their LAN.
    pub(crate) looks_around: bool,
    /// Whether they come back at other addresses when all lose power at once, and sometimes otherwise.
    /// Only who looks around finds them then.
    pub(crate) moves: bool,
    /// Whether the last crash before the audit takes all nodes of a cluster at one instant. A lone
    /// node always crashes then.
    pub(crate) ends_in_blackout: bool,
    pub(crate) clients: u64,
    pub(crate) actions_each: u64,
    /// Crashes before the final one.
    pub(crate) crashes: u64,
    /// While packs may take no more than so many bytes: from when, until when, how many.
    pub(crate) full: Option<(Duration, Duration, u64)>,
    pub(crate) disk_fails: bool,
    pub(crate) snapshot_entries: u64,
    pub(crate) log_entries_kept: u64,
    pub(crate) reclaim_interval_s: u64,
    pub(crate) uploads_max: u32,
    /// Mebibytes that packs may take before images are let go that other nodes keep; 0: as many as there are.
    pub(crate) cache_max_mib: u64,
    /// Kibibytes after which an upload is fetched elsewhere, and a pull makes a checkpoint.
    pub(crate) part_kib: u64,
    pub(crate) checkpoint_kib: u64,
    /// Seconds until a silent node is out and others keep what it kept.
    pub(crate) out_after_s: u64,
    /// Whether bits flip in packs at rest before the last downloads (F-D6). Then the run ends with
    /// those, and not with deleting everything.
    pub(crate) rot: bool,
}

/// How and when one life ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// At this disk operation, counted from 1.
    AtOperation(u64, CrashKind),
    /// This long after its start.
    After(Duration, CrashKind),
}

impl Plan {
    /// Draw the plan of the run `seed`.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let scenario = *dice.pick(&SCENARIOS);
        let crashes = match scenario {
            Scenario::Calm => 0,
            Scenario::Crashes | Scenario::Mixed => dice.between(2, 6),
            Scenario::CrashLoop => dice.between(4, 12),
            Scenario::FullDisk | Scenario::FailingDisk => dice.below(3),
        };
        let mut cluster = Dice::new(seed, "cluster");
        let nodes = *cluster.pick(NODES);
        let calm = scenario == Scenario::Calm;
        let mut keeping = Dice::new(seed, "keeping");
        let mut parts = Dice::new(seed, "parts");
        let mut lan = Dice::new(seed, "lan");
        let looks_around = nodes > 1 && lan.chance(600);
        let troubles = TROUBLES.into_iter().filter(|_| cluster.chance(400) && nodes > 1 && !calm);
        let troubles = troubles.collect();
        let fills = match scenario {
            Scenario::FullDisk => true,
            Scenario::Mixed => dice.chance(400),
            Scenario::Calm | Scenario::Crashes | Scenario::CrashLoop | Scenario::FailingDisk => false,
        };
        let full_from = Duration::from_millis(dice.between(500, 3_000));
        let full_for = Duration::from_millis(dice.between(1_000, 6_000));
        let full_bytes = dice.below(1 << 20);
        let (voters, failing) = (voters(nodes, &mut cluster), minority(nodes, &mut cluster));
        let swap = swap(nodes, calm, &mut cluster);
        Self {
            scenario,
            nodes,
            voters,
            failing,
            swap,
            liar: liar(nodes, swap.is_some(), seed),
            changes: changes(nodes, calm, &mut cluster),
            troubles,
            // Who saw more of an old disk has to be up to say so.
            change_cuts: if nodes == 1 || calm || swap.is_some() { 0 } else { change_cuts(seed) },
            trouble_interval_ms: cluster.between(500, 4_000),
            weather: if cluster.chance(300) { Conditions::draw(&mut cluster) } else { Conditions::default() },
            looks_around,
            moves: looks_around && lan.chance(500),
            ends_in_blackout: nodes == 1 || cluster.chance(500),
            clients: dice.between(3, 6),
            actions_each: dice.between(14, 30),
            crashes,
            full: fills.then_some((full_from, full_from + full_for, full_bytes)),
            disk_fails: matches!(scenario, Scenario::FailingDisk | Scenario::Mixed),
            snapshot_entries: *dice.pick(&[12, 40, 20_000]),
            log_entries_kept: *dice.pick(&[0, 5, 1_000]),
            reclaim_interval_s: dice.between(1, 3),
            uploads_max: if dice.chance(150) { 2 } else { 64 },
            cache_max_mib: u64::from(nodes > 1 && keeping.chance(500)),
            part_kib: *parts.pick(&[64, 256, 16_384]),
            checkpoint_kib: *parts.pick(&[64, 256, 65_536]),
            out_after_s: *keeping.pick(&[2, 10, 600]),
            rot: dice.chance(250),
        }
    }

    /// How many of a node's lives end by a fate of its own.
    pub(crate) fn crashes_of(&self, node: usize) -> u64 {
        let nodes = u64::try_from(self.nodes).unwrap_or(1);
        let node = u64::try_from(node).unwrap_or(0);
        self.crashes / nodes + u64::from(node < self.crashes % nodes)
    }

    /// How the next life ends.
    pub(crate) fn fate(&self, dice: &mut Dice) -> Fate {
        let kind = if dice.chance(750) { CrashKind::PowerCut } else { CrashKind::Kill };
        let early = self.scenario == Scenario::CrashLoop && dice.chance(700);
        match dice.chance(800) {
            true if early => Fate::AtOperation(dice.between(1, 20), kind),
            true => Fate::AtOperation(dice.magnitude(10), kind),
            false => Fate::After(Duration::from_millis(dice.magnitude(12)), kind),
        }
    }
}

/// In six of ten clusters.
fn change_cuts(seed: u64) -> u64 {
    let mut dice = Dice::new(seed, "changing voters");
    if dice.chance(600) { dice.between(1, 3) } else { 0 }
}

/// One in six of ten clusters; with fewer than three nodes there might be no honest copy besides.
fn liar(nodes: usize, swaps: bool, seed: u64) -> Option<Liar> {
    let mut dice = Dice::new(seed, "liar");
    let (node, per_mille) = (dice.index(nodes), *dice.pick(&[200, 500, 900]));
    (nodes > 2 && dice.chance(600)).then_some(Liar { node, per_mille, to_the_end: !swaps })
}

/// Fewer than half of the nodes; the only one of one.
fn minority(nodes: usize, dice: &mut Dice) -> BTreeSet<usize> {
    let most = ((nodes - 1) / 2).max(1);
    let count = 1 + dice.index(most);
    let first = dice.index(nodes);
    (first..first + count).map(|node| node % nodes).collect()
}

/// All nodes, or an odd number of them and the others follow.
fn voters(nodes: usize, dice: &mut Dice) -> u32 {
    let most = u32::try_from(nodes).unwrap_or(1);
    if nodes > 3 && dice.chance(300) { 3 } else { most }
}

fn swap(nodes: usize, calm: bool, dice: &mut Dice) -> Option<(usize, Swap)> {
    let node = dice.index(nodes);
    let swap = *dice.pick(&[Swap::Empty, Swap::Old, Swap::Removed]);
    (nodes > 1 && !calm && dice.chance(300)).then_some((node, swap))
}

/// Mostly none, sometimes one operator, sometimes two at once (F-C4).
fn changes(nodes: usize, calm: bool, dice: &mut Dice) -> Vec<u64> {
    let operators = if nodes > 1 && !calm { *dice.pick(&[0, 0, 0, 1, 1, 2]) } else { 0 };
    (0..operators).map(|_| dice.between(2, 6)).collect()
}
