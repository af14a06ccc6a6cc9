//! Many plans in virtual time, over links that carry one thing after the other.
//!
//! A piece goes in slices through its sender's uplink, which sends those of several pieces in turn, if it leaves the
//! site through the site's two access links, and through its receiver's downlink; each is a queue with a rate. News take
//! the way without the queues, and all nodes of a site hear them at once: with a thousand nodes, one event for each of
//! them and each piece would be most of the work.

mod node;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use peerglass_catalog::NodeId;

use crate::swarm::{Fetch, Plan, Setback};
use node::{Answer, Link, Node};

/// News wait so long for others.
const COALESCE: Duration = Duration::from_millis(10);
/// How long after news a node asks: whatever else it hears until then counts as well.
const ASKS_AFTER: Duration = Duration::from_millis(10);
const TICK: Duration = Duration::from_millis(100);
/// What a node has to send at most when it takes on more.
const QUEUE_MAX: Duration = Duration::from_secs(1);
const LAN_DELAY: Duration = Duration::from_micros(200);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick(usize),
    Asked {
        by: usize,
        of: usize,
        piece: usize,
    },
    Arrives {
        at: usize,
        from: usize,
        piece: usize,
    },
    Missed {
        at: usize,
        from: usize,
        piece: usize,
        why: Why,
    },
    /// What came since the last time is told.
    Tells(usize),
    /// A site hears of pieces that `of` got, by their places in what it got.
    Heard {
        site: usize,
        of: usize,
        from: usize,
        to: usize,
        backlog: u64,
    },
    Asks(usize),
    /// Its link is free for the next slice.
    Sends(usize),
    HeardBacklog {
        by: usize,
        of: usize,
        backlog: u64,
    },
    Gone {
        by: usize,
        who: usize,
    },
    Dies(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    NotThere,
    Busy,
}

/// What a world is made of.
pub(super) struct Shape {
    /// How many nodes each site has; the first node of the first is the seed.
    pub(super) sites: Vec<usize>,
    /// Bytes a second of each node's link, each way.
    pub(super) rate: f64,
    /// Of each site's access link, and its delay.
    pub(super) wan_rate: f64,
    pub(super) wan_delay: Duration,
    pub(super) pieces: usize,
    pub(super) piece_bytes: u32,
    /// Answers that a node sends at once, and bytes of each that are sent in one go.
    pub(super) turns: usize,
    pub(super) slice: u64,
    pub(super) seed: u64,
}

/// See the module.
pub(super) struct World {
    shape: Shape,
    nodes: Vec<Node>,
    /// The nodes of each site.
    members: Vec<Range<usize>>,
    wan_up: Vec<Link>,
    wan_down: Vec<Link>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    count: u64,
    now: Duration,
}

impl World {
    pub(super) fn new(shape: Shape) -> Self {
        let (mut nodes, mut members) = (Vec::new(), Vec::new());
        for (site, count) in shape.sites.iter().enumerate() {
            members.push(nodes.len()..nodes.len() + count);
            for _ in 0..*count {
                let me = nodes.len();
                let plan = Plan::new(NodeId(me as u64), site as u64, shape.pieces, shape.seed ^ me as u64);
                nodes.push(Node::new(
                    site,
                    shape.rate,
                    (me > 0).then_some(plan),
                    vec![me == 0; shape.pieces],
                ));
            }
        }
        let access = vec![Link::new(shape.wan_rate); shape.sites.len()];
        let mut world = Self {
            wan_up: access.clone(),
            wan_down: access,
            nodes,
            members,
            events: BinaryHeap::new(),
            count: 0,
            now: Duration::ZERO,
            shape,
        };
        world.meet();
        world
    }

    /// Everybody hears of everybody.
    fn meet(&mut self) {
        let sites: Vec<usize> = self.nodes.iter().map(|node| node.site).collect();
        for me in 1..self.nodes.len() {
            let Some(plan) = &mut self.nodes[me].plan else { continue };
            for (other, site) in sites.iter().enumerate().filter(|(other, _)| *other != me) {
                plan.joined(NodeId(other as u64), *site as u64, true);
            }
            plan.is_whole(NodeId(0));
            (0..self.shape.pieces).for_each(|piece| plan.know(piece, self.shape.piece_bytes));
            self.at(Duration::ZERO, Event::Tick(me));
        }
    }

    /// One more node says it has everything, and gives nothing.
    pub(super) fn liar(&mut self, who: usize) {
        self.nodes[who].plan = None;
        self.nodes[who].lies = true;
        for me in (1..self.nodes.len()).filter(|me| *me != who) {
            if let Some(plan) = &mut self.nodes[me].plan {
                plan.is_whole(NodeId(who as u64));
            }
        }
    }

    pub(super) fn dies(&mut self, who: usize, at: Duration) {
        self.at(at, Event::Dies(who));
    }

    pub(super) fn slow(&mut self, who: usize, rate: f64) {
        self.nodes[who].up.rate = rate;
        self.nodes[who].down.rate = rate;
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((when, self.count, event)));
    }

    /// Run until every node that lives is done. Answers with when each was.
    pub(super) fn run(&mut self) -> Vec<Duration> {
        let limit = Duration::from_secs(3600);
        while let Some(Reverse((when, _, event))) = self.events.pop() {
            self.now = when;
            assert!(when < limit, "the swarm is stuck: {}", self.describe());
            self.happens(event);
        }
        let mut done: Vec<_> = self.nodes.iter().filter_map(|node| node.done_at).collect();
        let living = self.nodes.iter().skip(1).filter(|node| !node.dead && !node.lies).count();
        assert_eq!(done.len(), living, "{}", self.describe());
        done.sort();
        done
    }

    fn describe(&self) -> String {
        let left = self.nodes.iter().map(|node| node.has.iter().filter(|has| !**has).count());
        format!("pieces left: {:?}", left.collect::<Vec<_>>())
    }

    fn delay(&self, a: usize, b: usize) -> Duration {
        if self.nodes[a].site == self.nodes[b].site { LAN_DELAY } else { self.shape.wan_delay }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Tick(me) => self.tick(me),
            Event::Asked { by, of, piece } => self.asked(by, of, piece),
            Event::Arrives { at, from, piece } => self.arrives(at, from, piece),
            Event::Missed { at, from, piece, why } => self.with_plan(at, |plan, now| match why {
                Why::NotThere => {
                    plan.missed(piece, NodeId(from as u64), Setback::NotThere, now);
                    plan.left_by(NodeId(from as u64));
                }
                Why::Busy => plan.missed(piece, NodeId(from as u64), Setback::Busy, now),
            }),
            Event::Tells(of) => self.tells(of),
            Event::Heard { site, of, from, to, backlog } => self.heard(site, of, from..to, backlog),
            Event::Asks(me) => {
                self.nodes[me].asks = false;
                self.with_plan(me, |_, _| {});
            }
            Event::Sends(of) => self.sends(of),
            Event::HeardBacklog { by, of, backlog } => {
                self.with_plan(by, |plan, now| plan.backlog(NodeId(of as u64), backlog, now));
            }
            Event::Gone { by, who } => self.with_plan(by, |plan, _| plan.left_by(NodeId(who as u64))),
            Event::Dies(who) => {
                self.nodes[who].dead = true;
                for by in 1..self.nodes.len() {
                    self.at(self.now + Duration::from_secs(3), Event::Gone { by, who });
                }
            }
        }
    }

    fn with_plan(&mut self, me: usize, what: impl FnOnce(&mut Plan, Duration)) {
        let now = self.now;
        if self.nodes[me].dead {
            return;
        }
        if let Some(plan) = &mut self.nodes[me].plan {
            what(plan, now);
            self.ask(me);
        }
    }

    fn ask(&mut self, me: usize) {
        while let Some(Fetch { piece, from }) =
            self.nodes[me].plan.as_mut().and_then(|plan| plan.next(self.now))
        {
            let of = from.0 as usize;
            let when = self.now + self.delay(me, of);
            self.at(when, Event::Asked { by: me, of, piece });
        }
    }

    fn tick(&mut self, me: usize) {
        let idle = self.nodes[me].plan.as_ref().is_some_and(|plan| plan.left() > 0) && !self.nodes[me].dead;
        if !idle {
            return;
        }
        self.with_plan(me, |_, _| {});
        // The seed's own news, told by whoever still listens.
        let (delay, backlog) = (self.delay(me, 0), self.nodes[0].backlog());
        self.at(self.now + delay, Event::HeardBacklog { by: me, of: 0, backlog });
        self.at(self.now + TICK, Event::Tick(me));
    }

    fn asked(&mut self, by: usize, of: usize, piece: usize) {
        if self.nodes[of].dead {
            return;
        }
        let back = self.delay(by, of);
        if self.nodes[of].lies || !self.nodes[of].has[piece] {
            return self.at(self.now + back, Event::Missed { at: by, from: of, piece, why: Why::NotThere });
        }
        if self.nodes[of].backlog() as f64 > self.nodes[of].up.rate * QUEUE_MAX.as_secs_f64() {
            return self.at(self.now + back, Event::Missed { at: by, from: of, piece, why: Why::Busy });
        }
        let node = &mut self.nodes[of];
        let is_idle = node.sending.is_empty() && node.waiting.is_empty();
        node.waiting.push_back(Answer { to: by, piece, left: u64::from(self.shape.piece_bytes) });
        if is_idle {
            let when = node.up.free_at.max(self.now);
            self.at(when, Event::Sends(of));
        }
    }

    /// The next slice of what it has to send.
    fn sends(&mut self, of: usize) {
        let node = &mut self.nodes[of];
        while node.sending.len() < self.shape.turns
            && let Some(next) = node.waiting.pop_front()
        {
            node.sending.push_back(next);
        }
        let Some(mut answer) = node.sending.pop_front().filter(|_| !node.dead) else { return };
        let (to, piece, bytes) = (answer.to, answer.piece, answer.left.min(self.shape.slice));
        answer.left -= bytes;
        let is_last = answer.left == 0;
        if !is_last {
            node.sending.push_back(answer);
        }
        let mut through = node.up.carry(self.now, bytes);
        if !(node.sending.is_empty() && node.waiting.is_empty()) {
            self.at(through, Event::Sends(of));
        }
        let (from_site, to_site) = (self.nodes[of].site, self.nodes[to].site);
        if from_site != to_site {
            through = self.wan_up[from_site].carry(through, bytes) + self.shape.wan_delay;
            through = self.wan_down[to_site].carry(through, bytes);
        }
        through = self.nodes[to].down.carry(through, bytes);
        if is_last {
            self.at(through + LAN_DELAY, Event::Arrives { at: to, from: of, piece });
        }
    }

    fn arrives(&mut self, at: usize, from: usize, piece: usize) {
        if self.nodes[at].dead {
            return;
        }
        let news = !std::mem::replace(&mut self.nodes[at].has[piece], true);
        self.with_plan(at, |plan, now| drop(plan.got(piece, NodeId(from as u64), now)));
        if self.nodes[at].plan.as_ref().is_some_and(|plan| plan.left() == 0) {
            self.nodes[at].done_at.get_or_insert(self.now);
        }
        if news {
            self.nodes[at].got.push(piece);
            if !std::mem::replace(&mut self.nodes[at].tells, true) {
                self.at(self.now + COALESCE, Event::Tells(at));
            }
        }
    }

    fn tells(&mut self, of: usize) {
        let backlog = self.nodes[of].backlog();
        let (from, to) = (self.nodes[of].told, self.nodes[of].got.len());
        self.nodes[of].told = to;
        self.nodes[of].tells = false;
        let sites = if self.nodes[of].dead { 0 } else { self.shape.sites.len() };
        for site in 0..sites {
            let delay = if site == self.nodes[of].site { LAN_DELAY } else { self.shape.wan_delay };
            self.at(self.now + delay, Event::Heard { site, of, from, to, backlog });
        }
    }

    /// Every node of a site hears it, and asks soon.
    fn heard(&mut self, site: usize, of: usize, places: Range<usize>, backlog: u64) {
        let pieces = self.nodes[of].got[places].to_vec();
        for by in self.members[site].clone().filter(|by| *by != of) {
            let node = &mut self.nodes[by];
            let Some(plan) = node.plan.as_mut().filter(|plan| plan.left() > 0 && !node.dead) else {
                continue;
            };
            pieces.iter().for_each(|piece| plan.has(NodeId(of as u64), *piece));
            plan.backlog(NodeId(of as u64), backlog, self.now);
            if !std::mem::replace(&mut node.asks, true) {
                self.at(self.now + ASKS_AFTER, Event::Asks(by));
            }
        }
    }

    /// Copies of the image that the seed sent.
    pub(super) fn seed_copies(&self) -> f64 {
        self.copies(self.nodes[0].up.sent)
    }

    /// Copies that went into each site's access link.
    pub(super) fn copies_in(&self) -> Vec<f64> {
        self.wan_down.iter().map(|link| self.copies(link.sent)).collect()
    }

    /// Copies that went out of the seed's site.
    pub(super) fn copies_out(&self) -> f64 {
        self.copies(self.wan_up[0].sent)
    }

    fn copies(&self, bytes: u64) -> f64 {
        bytes as f64 / (self.shape.pieces as f64 * f64::from(self.shape.piece_bytes))
    }

    /// How long one copy takes at this rate, in seconds.
    pub(super) fn ideal(&self, rate: f64) -> f64 {
        self.shape.pieces as f64 * f64::from(self.shape.piece_bytes) / rate
    }
}
