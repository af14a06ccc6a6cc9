//! One peer as the plan sees it: what it has, how busy it is, what it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fixedbitset::FixedBitSet;

use super::Setback;
use super::pace::Window;

/// What another rack costs, in bytes of backlog.
const RACK_BYTES: u64 = 256 << 10;

/// A backlog that is as good as none.
const IDLE_BYTES: u64 = 1 << 20;
/// How long one is left alone that said to be busy, at first and at most.
const BUSY_FOR: Duration = Duration::from_millis(50);
const BUSY_FOR_MAX: Duration = Duration::from_secs(6);
/// How long a piece is on its way at least before it is late, and how much longer than others it takes.
const LATE_MIN: Duration = Duration::from_secs(2);
const LATE_TIMES: u32 = 4;

/// A piece that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) bytes: u32,
    pub(super) since: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) site: u64,
    near_rack: bool,
    /// It had the whole when it was first heard of.
    pub(super) seed: bool,
    /// It has it all since.
    pub(super) completed: bool,
    has: FixedBitSet,
    count: usize,
    /// Bytes it said it has to send.
    backlog: u64,
    /// Since when it said there are none.
    idle_since: Option<Duration>,
    pub(super) flights: BTreeMap<usize, Flight>,
    window: Window,
    /// How long pieces take, smoothed.
    takes: Duration,
    busy_until: Duration,
    /// How long it is left alone when it is busy again.
    busy_for: Duration,
    /// What it said it has and did not give.
    lacks: BTreeSet<usize>,
}

impl Peer {
    pub(super) fn new((site, is_near): (u64, bool), near_rack: bool, pieces: usize) -> Self {
        Self {
            site,
            near_rack,
            seed: false,
            completed: false,
            has: FixedBitSet::with_capacity(pieces),
            count: 0,
            backlog: 0,
            idle_since: None,
            flights: BTreeMap::new(),
            window: if is_near { Window::near() } else { Window::remote() },
            takes: Duration::ZERO,
            busy_until: Duration::ZERO,
            busy_for: BUSY_FOR,
            lacks: BTreeSet::new(),
        }
    }

    /// It says how much it has to send.
    pub(super) fn says(&mut self, backlog: u64, now: Duration) {
        self.backlog = backlog;
        self.idle_since = if backlog == 0 { self.idle_since.or(Some(now)) } else { None };
    }

    /// Whether it has had nothing to send for so long.
    pub(super) fn is_idle_for(&self, patience: Duration, now: Duration) -> bool {
        self.idle_since.is_some_and(|since| now.saturating_sub(since) >= patience)
    }

    /// Pieces that take longer than they should, for [`Iterator::flat_map`].
    pub(super) fn late_flights(now: Duration) -> impl Fn(&Self) -> Vec<usize> {
        move |peer| {
            let patience = LATE_MIN.max(peer.takes * LATE_TIMES);
            let late = peer.flights.iter().filter(|(_, flight)| now.saturating_sub(flight.since) > patience);
            late.map(|(piece, _)| *piece).collect()
        }
    }

    pub(super) fn has(&self, piece: usize) -> bool {
        self.has.contains(piece)
    }

    pub(super) fn has_nothing(&self) -> bool {
        self.count == 0
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = usize> + '_ {
        self.has.ones()
    }

    /// It has all of it, but for what it did not give. Answers with what is news.
    pub(super) fn fill(&mut self) -> Vec<usize> {
        let news: Vec<usize> = self.has.zeroes().filter(|piece| !self.lacks.contains(piece)).collect();
        news.iter().for_each(|piece| self.has.insert(*piece));
        self.count += news.len();
        news
    }

    /// Answers with whether that is news. A piece that does not exist is none.
    pub(super) fn add(&mut self, piece: usize) -> bool {
        let exists = piece < self.has.len() && !self.lacks.contains(&piece);
        let news = exists && !self.has.put(piece);
        self.count += usize::from(news);
        news
    }

    /// Answers with whether it was thought to have it.
    pub(super) fn remove(&mut self, piece: usize) -> bool {
        let had = self.has.contains(piece);
        self.lacks.insert(piece);
        self.has.set(piece, false);
        self.count -= usize::from(had);
        had
    }

    /// Whether it may be asked for one more.
    pub(super) fn has_room(&self, now: Duration) -> bool {
        self.window.has_room(self.flights.len()) && self.busy_until <= now
    }

    /// What one more costs, in bytes that come before it.
    pub(super) fn cost(&self) -> u64 {
        let asked: u64 = self.flights.values().map(|flight| u64::from(flight.bytes)).sum();
        self.backlog.max(asked) + if self.near_rack { 0 } else { RACK_BYTES }
    }

    /// A piece came.
    pub(super) fn arrived(&mut self, piece: usize, now: Duration) -> Option<Flight> {
        let flight = self.flights.remove(&piece)?;
        let took = now.saturating_sub(flight.since);
        self.busy_for = BUSY_FOR;
        self.takes = (self.takes * 7 + took) / 8;
        // If it had little to send, what took long was the way: asking for less would leave it idle.
        self.window.arrived(if self.backlog < IDLE_BYTES { Duration::ZERO } else { took });
        Some(flight)
    }

    /// A piece need not come any more. If it was late, that is like one that did not come.
    pub(super) fn taken_back(&mut self, piece: usize, now: Duration) -> Option<Flight> {
        if Self::late_flights(now)(self).contains(&piece) {
            return self.missed(piece, Setback::Busy, now);
        }
        self.flights.remove(&piece)
    }

    /// A piece did not come.
    pub(super) fn missed(&mut self, piece: usize, why: Setback, now: Duration) -> Option<Flight> {
        self.window.missed();
        if why == Setback::Busy {
            // More and more, so that somebody else is asked in the end.
            self.busy_until = now + self.busy_for;
            self.busy_for = (self.busy_for * 2).min(BUSY_FOR_MAX);
        }
        self.flights.remove(&piece)
    }
}
