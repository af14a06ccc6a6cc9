//! What goes wrong with a cluster, and when.
//!
//! A storm draws one trouble after the other, each with its beginning and its end, as [`Deed`]s at
//! points in time. It knows nothing of how the world carries them out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::dice::Dice;
use crate::disk::CrashKind;
use crate::network::Conditions;
use crate::network::links::{Way, between};
use crate::scenarios::{Plan, Swap, Trouble};

/// One thing that happens to the world.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// These links are cut, and no others.
    Cut(&'static str, BTreeSet<Way>),
    /// One link goes down (or up).
    Switch(Way, bool),
    /// The network gets so.
    Weather(Conditions),
    /// A node's machine crashes.
    Crash(usize, CrashKind),
    /// All machines crash at one instant.
    Blackout,
    /// A node is stopped in order and started again.
    Restart(usize),
    /// A node's wall clock jumps by so many seconds.
    ShiftClock(usize, i64),
    /// Nothing else happens from now on, for so long.
    Calm(Duration),
    /// A copy is made of a node's disks.
    CopyDisks(usize),
    /// A node's machine loses power and comes back with the copy, or with empty disks.
    SwapDisks(usize, Swap),
}

/// How long a cluster is left alone around the return of an old disk: those who saw more of it have to
/// be heard, or nobody can notice.
const CALM_BEFORE: Duration = Duration::from_millis(1_500);
const CALM: Duration = Duration::from_secs(12);

/// The troubles of one run.
pub(super) struct Storm {
    dice: Dice,
    nodes: usize,
    troubles: Vec<Trouble>,
    interval_ms: u64,
    usual: Conditions,
    next: Duration,
    /// Until then only what was planned for the disks happens.
    calm_until: Duration,
    /// By time, and in the order they were drawn.
    due: BTreeMap<(Duration, u64), Deed>,
    drawn: u64,
}

impl Storm {
    /// The storm of the run `seed`. It begins at `begin`.
    pub(super) fn new(seed: u64, plan: &Plan, begin: Duration) -> Self {
        let mut dice = Dice::new(seed, "storm");
        let mut due = BTreeMap::new();
        if let Some((node, swap)) = plan.swap {
            let copy = begin + Duration::from_millis(dice.between(200, 3_000));
            due.insert((copy, 0), Deed::CopyDisks(node));
            let swapped = copy + Duration::from_millis(dice.between(2_500, 6_000));
            due.insert((swapped, 0), Deed::SwapDisks(node, swap));
            if swap == Swap::Old {
                due.insert((swapped - CALM_BEFORE, 0), Deed::Calm(CALM));
            }
        }
        Self {
            dice,
            nodes: plan.nodes,
            troubles: plan.troubles.clone(),
            interval_ms: plan.trouble_interval_ms,
            usual: plan.weather,
            next: begin,
            calm_until: Duration::ZERO,
            due,
            drawn: 0,
        }
    }

    /// Nothing happens.
    pub(super) fn none(plan: &Plan) -> Self {
        let calm = Plan { troubles: Vec::new(), swap: None, ..plan.clone() };
        Self::new(0, &calm, Duration::ZERO)
    }

    /// What happens now. `leader` is who leads, if that is known.
    pub(super) fn deeds(&mut self, now: Duration, leader: Option<usize>) -> Vec<Deed> {
        let calm = now < self.calm_until;
        if now >= self.next && !self.troubles.is_empty() && !calm {
            let trouble = *self.dice.pick(&self.troubles);
            self.draw(trouble, now, leader);
            self.next = now + Duration::from_millis(self.dice.between(200, self.interval_ms));
        }
        let mut deeds = Vec::new();
        while let Some(first) = self.due.first_entry() {
            if first.key().0 > now {
                break;
            }
            let deed = first.remove();
            if let Deed::Calm(span) = deed {
                self.calm_until = now + span;
            } else if calm && !matches!(deed, Deed::CopyDisks(_) | Deed::SwapDisks(..)) {
                continue;
            }
            deeds.push(deed);
        }
        deeds
    }

    fn at(&mut self, when: Duration, deed: Deed) {
        self.drawn += 1;
        self.due.insert((when, self.drawn), deed);
    }

    fn draw(&mut self, trouble: Trouble, now: Duration, leader: Option<usize>) {
        match trouble {
            Trouble::Split => {
                let (one, other) = self.groups();
                self.cut("F-N4 split", between(&one, &other), now);
            }
            Trouble::OneWay => {
                let (one, other) = self.groups();
                let cut = between(&one, &other).into_iter().filter(|(from, _)| one.contains(from)).collect();
                self.cut("F-N4 one-way partition", cut, now);
            }
            Trouble::Bridge => {
                let (mut one, mut other) = self.groups();
                let bridge = self.node();
                one.remove(&bridge);
                other.remove(&bridge);
                self.cut("F-N4 bridge", between(&one, &other), now);
            }
            Trouble::Isolate => {
                let node = self.node();
                self.cut("F-N4 node isolated", self.around(node), now);
            }
            Trouble::IsolateLeader => {
                if let Some(leader) = leader {
                    self.cut("F-N4 leader isolated", self.around(leader), now);
                }
            }
            Trouble::Flap => self.flap(now),
            Trouble::Swizzle => self.swizzle(now),
            Trouble::BadWeather => {
                let conditions = Conditions::draw(&mut self.dice);
                let end = now + self.span(500, 8_000);
                self.at(now, Deed::Weather(conditions));
                self.at(end, Deed::Weather(self.usual));
            }
            Trouble::Crash => {
                let (node, kind) = (self.node(), self.kind());
                self.at(now, Deed::Crash(node, kind));
            }
            Trouble::CrashLeader => {
                let kind = self.kind();
                leader.into_iter().for_each(|leader| self.at(now, Deed::Crash(leader, kind)));
            }
            Trouble::Blackout => self.at(now, Deed::Blackout),
            Trouble::RollingRestart => {
                let (first, pause) = (self.node(), self.span(300, 3_000));
                for (turn, node) in (0..).zip((first..self.nodes).chain(0..first)) {
                    self.at(now + pause * turn, Deed::Restart(node));
                }
            }
            Trouble::ClockJump => {
                let node = self.node();
                let seconds = i64::try_from(self.dice.magnitude(28)).unwrap_or(i64::MAX);
                let seconds = if self.dice.chance(500) { seconds } else { -seconds };
                self.at(now, Deed::ShiftClock(node, seconds));
            }
        }
    }

    fn cut(&mut self, what: &'static str, cut: BTreeSet<Way>, now: Duration) {
        let end = now + self.span(200, 6_000);
        self.at(now, Deed::Cut(what, cut));
        self.at(end, Deed::Cut("healed", BTreeSet::new()));
    }

    fn flap(&mut self, now: Duration) {
        let (from, to) = (self.node(), self.node());
        let mut when = now;
        for _ in 0..self.dice.between(3, 10) {
            for down in [true, false] {
                self.at(when, Deed::Switch((from, to), down));
                self.at(when, Deed::Switch((to, from), down));
                when += self.span(20, 700);
            }
        }
    }

    fn swizzle(&mut self, now: Duration) {
        let (mut down, mut up) = (now, now + self.span(1_000, 4_000));
        for node in 0..self.nodes {
            if self.dice.chance(500) {
                for way in self.around(node) {
                    down += self.span(1, 200);
                    up += self.span(1, 200);
                    self.at(down, Deed::Switch(way, true));
                    self.at(up, Deed::Switch(way, false));
                }
            }
        }
    }

    fn around(&self, node: usize) -> BTreeSet<Way> {
        between(&BTreeSet::from([node]), &(0..self.nodes).collect())
    }

    /// Two groups, neither of them empty.
    fn groups(&mut self) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let first = self.node();
        let size = 1 + self.dice.index(self.nodes - 1);
        let one: BTreeSet<usize> = (first..first + size).map(|node| node % self.nodes).collect();
        let other = (0..self.nodes).filter(|node| !one.contains(node)).collect();
        (one, other)
    }

    fn node(&mut self) -> usize {
        self.dice.index(self.nodes)
    }

    fn kind(&mut self) -> CrashKind {
        if self.dice.chance(500) { CrashKind::PowerCut } else { CrashKind::Kill }
    }

    fn span(&mut self, min_ms: u64, max_ms: u64) -> Duration {
        Duration::from_millis(self.dice.between(min_ms, max_ms))
    }
}
