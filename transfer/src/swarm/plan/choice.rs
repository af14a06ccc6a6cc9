//! Choosing: what the rules of the plan come to at one moment.

use std::cell::OnceCell;
use std::time::Duration;

use peerglass_catalog::NodeId;

use super::peer::{Flight, Peer};
use super::turns::mix;
use super::{Fetch, Plan, State};

/// Bytes on their way at most.
const FLYING_MAX: u64 = 16 << 20;
/// The same with those that are late.
const FLYING_LATE_MAX: u64 = 4 * FLYING_MAX;
/// Pieces on their way whatever their size, if they can be had.
const FLYING_PIECES_MIN: usize = 4;
/// Pieces looked at before it is said that there is nothing to ask: those that follow are like them.
const LOOK_MAX: usize = 64;
/// Pieces that a reader's cursor has in front of it.
const CURSOR_WINDOW: usize = 4;
/// Pieces of which the one is taken that comes soonest.
const COMPARED_MAX: usize = 16;
/// What a node may have to send and count as having little: it is asked for the rarest it has.
const LITTLE_BYTES: u64 = 1 << 20;
/// How long a near node is idle before somebody asks it out of turn, and how much longer for each node that
/// comes before that one.
const RELAXED_AFTER: Duration = Duration::from_millis(300);
const RELAXED_STEP: Duration = Duration::from_millis(200);
const RELAXED_STEPS_MAX: u8 = 10;
/// How long one of the last pieces is waited for before another node is asked as well.
const ENDGAME_AFTER: Duration = Duration::from_millis(500);
/// How long that node has had nothing to send.
const ENDGAME_IDLE: Duration = Duration::from_millis(100);
/// How long a node has nothing to ask for before it does not matter any more whom it asks, and the pause
/// between two pieces that are taken so.
const DESPERATE_AFTER: Duration = Duration::from_secs(4);
const DESPERATE_PAUSE: Duration = Duration::from_millis(100);
/// How long a reader waits for the node on duty.
const READER_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for a piece that is late before a second node is asked for it.
const READER_PATIENCE_LATE: Duration = Duration::from_secs(4);

impl Plan {
    /// The next piece to ask for. It counts as asked for until [`got`](Self::got) or [`missed`](Self::missed).
    pub(crate) fn next(&mut self, now: Duration) -> Option<Fetch> {
        if self.left == 0 || self.is_full(now) {
            return None;
        }
        self.far_is_open = self.far_has_room(now);
        let ready = Ready::new(self, now);
        let ruled = self.for_readers(&ready).or_else(|| self.on_duty(&ready)).or_else(|| self.spread(&ready));
        if let Some(fetch) = ruled {
            self.idle_since = None;
            return Some(self.take_off(fetch, now));
        }
        let since = self.idle_since.unwrap_or(now);
        let relaxed = self.relaxed(&ready).or_else(|| self.endgame(&ready));
        let is_desperate = relaxed.is_none() && now.saturating_sub(since) >= DESPERATE_AFTER;
        let fetch = if is_desperate { self.desperate(&ready) } else { relaxed };
        let pause = if is_desperate && fetch.is_some() { DESPERATE_PAUSE } else { Duration::ZERO };
        self.idle_since = Some(since + pause);
        Some(self.take_off(fetch?, now))
    }

    /// Whether [`next`](Self::next) may say something else with time alone.
    pub(crate) fn waits(&self) -> bool {
        self.left > 0 && self.idle_since.is_some()
    }

    /// Whether as much is on its way as may be. What is late does not count: who sends a byte now and then must
    /// not keep others from sending.
    fn is_full(&self, now: Duration) -> bool {
        let full = |flying, flights| flying >= FLYING_MAX && flights >= FLYING_PIECES_MIN;
        if !full(self.flying, self.flights) {
            return false;
        }
        if self.flying >= FLYING_LATE_MAX {
            return true;
        }
        let late = self.asked_peers().flat_map(Peer::late_flights(now));
        let (bytes, count) = late
            .fold((0, 0), |(bytes, count), piece| (bytes + u64::from(self.pieces[piece].bytes), count + 1));
        full(self.flying - bytes, self.flights - count)
    }

    /// Whether more may be asked of other sites. What is late does not count there, either.
    fn far_has_room(&self, now: Duration) -> bool {
        if self.far_window.has_room(self.far_flights) {
            return true;
        }
        let far = self.asked_peers().filter(|peer| peer.site != self.turns.site());
        let late: usize = far.map(|peer| Peer::late_flights(now)(peer).len()).sum();
        self.far_window.has_room(self.far_flights - late)
    }

    fn asked_peers(&self) -> impl Iterator<Item = &Peer> {
        self.asked.iter().filter_map(|node| self.peers.get(node))
    }

    fn take_off(&mut self, fetch: Fetch, now: Duration) -> Fetch {
        let bytes = self.pieces[fetch.piece].bytes;
        if let Some(peer) = self.peers.get_mut(&fetch.from) {
            peer.flights.insert(fetch.piece, Flight { bytes, since: now });
            self.asked.insert(fetch.from);
            self.far_flights += usize::from(peer.site != self.turns.site());
            self.flying += u64::from(bytes);
            self.flights += 1;
            self.pieces[fetch.piece].flights += 1;
            self.refile(fetch.piece);
        }
        fetch
    }

    /// What readers wait for: by the rules if they allow it, and if they wait too long, of anybody.
    fn for_readers(&self, ready: &Ready<'_>) -> Option<Fetch> {
        let now = ready.now;
        for cursor in &self.cursors {
            let end = (cursor.piece + CURSOR_WINDOW).min(self.pieces.len());
            for piece in (cursor.piece..end).filter(|piece| self.wanted.contains(piece)) {
                if let Some(from) = self.near_holder(piece, ready).or_else(|| self.duty_source(piece, ready))
                {
                    return Some(Fetch { piece, from });
                }
                let steps = u32::from(self.pieces[piece].rank.min(RELAXED_STEPS_MAX));
                let patience = READER_PATIENCE + RELAXED_STEP * steps;
                if piece == cursor.piece
                    && now.saturating_sub(cursor.since) > patience
                    && let Some(from) = ready.best(|peer| peer.has(piece))
                {
                    return Some(Fetch { piece, from });
                }
            }
            if now.saturating_sub(cursor.since) > READER_PATIENCE_LATE
                && let Some(fetch) = self.instead_of_late(cursor.piece, now)
            {
                return Some(fetch);
            }
        }
        None
    }

    fn on_duty(&self, ready: &Ready<'_>) -> Option<Fetch> {
        let looked = self.duties.iter().take(LOOK_MAX);
        looked.copied().find_map(|piece| Some(Fetch { piece, from: self.duty_source(piece, ready)? }))
    }

    fn spread(&self, ready: &Ready<'_>) -> Option<Fetch> {
        if ready.near().iter().all(|(_, peer)| peer.seed) {
            return None;
        }
        let looked = self.open.iter().take(LOOK_MAX).copied();
        let fetches =
            looked.filter_map(|(_, _, piece)| Some(Fetch { piece, from: self.near_holder(piece, ready)? }));
        let mut least: Option<(u64, Fetch)> = None;
        for fetch in fetches.take(COMPARED_MAX) {
            let cost = self.peers.get(&fetch.from).map_or(u64::MAX, Peer::cost);
            if cost <= LITTLE_BYTES {
                return Some(fetch);
            }
            if least.is_none_or(|(other, _)| cost < other) {
                least = Some((cost, fetch));
            }
        }
        least.map(|(_, fetch)| fetch)
    }

    /// What somebody else has not fetched of a near node that has nothing to do.
    fn relaxed(&self, ready: &Ready<'_>) -> Option<Fetch> {
        let now = ready.now;
        if !ready.near().iter().any(|(_, peer)| peer.is_idle_for(RELAXED_AFTER, now)) {
            return None;
        }
        for piece in self.wanted.iter().rev().take(LOOK_MAX).copied() {
            let steps = self.pieces[piece].rank.clamp(1, RELAXED_STEPS_MAX) - 1;
            let patience = RELAXED_AFTER + RELAXED_STEP * u32::from(steps);
            if let Some(from) = ready.best_near(|peer| peer.is_idle_for(patience, now) && peer.has(piece)) {
                return Some(Fetch { piece, from });
            }
        }
        None
    }

    /// The last pieces, all of which somebody was asked for: again, of one who has nothing else to send. Whoever is
    /// first makes the other's answer needless.
    fn endgame(&self, ready: &Ready<'_>) -> Option<Fetch> {
        if !self.wanted.is_empty() || self.left > self.flights {
            return None;
        }
        let asked = self.asked_peers().flat_map(|peer| &peer.flights);
        let waits = asked.filter(|(piece, flight)| {
            ready.now.saturating_sub(flight.since) >= ENDGAME_AFTER && self.pieces[**piece].flights == 1
        });
        let mut waits: Vec<(Duration, usize)> = waits.map(|(piece, flight)| (flight.since, *piece)).collect();
        waits.sort_unstable();
        waits.into_iter().find_map(|(_, piece)| {
            let is_free = |peer: &Peer| peer.flights.is_empty() && peer.is_idle_for(ENDGAME_IDLE, ready.now);
            let passer = ready.best_near(|peer| !peer.seed && peer.has(piece) && is_free(peer));
            let from = passer.or_else(|| ready.best_near(|peer| peer.has(piece) && is_free(peer)))?;
            Some(Fetch { piece, from })
        })
    }

    /// Whatever there is, of anybody; what is long on its way of another as well.
    fn desperate(&self, ready: &Ready<'_>) -> Option<Fetch> {
        let now = ready.now;
        let of_anybody = self.wanted.iter().take(LOOK_MAX).copied().find_map(|piece| {
            let from = ready.best(|peer| peer.has(piece))?;
            Some(Fetch { piece, from })
        });
        let late = || {
            let mut flights = self.asked_peers().flat_map(Peer::late_flights(now));
            flights.find_map(|piece| self.instead_of_late(piece, now))
        };
        of_anybody.or_else(late)
    }

    /// A piece that only one was asked for, whose answer is late, of another.
    fn instead_of_late(&self, piece: usize, now: Duration) -> Option<Fetch> {
        let known = self.pieces.get(piece)?;
        if known.state != State::Wanted || known.flights != 1 {
            return None;
        }
        let asked = self.asked_peers().find(|peer| peer.flights.contains_key(&piece))?;
        if !Peer::late_flights(now)(asked).contains(&piece) {
            return None;
        }
        let may = |peer: &Peer| peer.has(piece) && !peer.flights.contains_key(&piece);
        let (mine, far) = (self.turns.site(), self.far_is_open);
        let able = self.peers.iter().filter(|(_, peer)| (far || peer.site == mine) && may(peer));
        able.min_by_key(|(node, peer)| self.order(**node, peer)).map(|(from, _)| Fetch { piece, from: *from })
    }

    /// The least busy of the near nodes that have it and are no seeds.
    fn near_holder(&self, piece: usize, ready: &Ready<'_>) -> Option<NodeId> {
        if self.pieces[piece].near == 0 {
            return None;
        }
        ready.best_near(|peer| !peer.seed && peer.has(piece))
    }

    /// Whom a node on duty asks.
    fn duty_source(&self, piece: usize, ready: &Ready<'_>) -> Option<NodeId> {
        if self.pieces[piece].near > 0 || self.pieces[piece].rank != 0 {
            return None;
        }
        let far = self.far_is_open;
        // No near node has it.
        if !far && !self.turns.is_home() {
            return None;
        }
        let mine = self.turns.site();
        let order = self.turns.order(piece, |seed| self.peers.get(&seed).is_some_and(|peer| peer.has(piece)));
        let Some(order) = order else { return ready.best(|peer| peer.has(piece)) };
        match order.seed {
            Some(seed) => {
                let able = |peer: &Peer| peer.has_room(ready.now) && (far || peer.site == mine);
                self.peers.get(&seed).is_some_and(able).then_some(seed)
            }
            None if self.pieces[piece].far == 0 || !far => None,
            None => ready.best(|peer| !peer.seed && peer.has(piece) && order.sites.contains(&peer.site)),
        }
    }

    /// Whom to ask sooner: the lesser.
    fn order(&self, node: NodeId, peer: &Peer) -> (bool, u64, u64) {
        (peer.site != self.turns.site(), peer.cost(), mix(self.seed, node.0))
    }
}

type Ordered<'a> = Vec<(NodeId, &'a Peer)>;

/// Whom one more piece may be asked of at one moment, best first: most of what is looked at then asks for
/// the best of those who have it, and the first few do.
struct Ready<'a> {
    plan: &'a Plan,
    now: Duration,
    near: OnceCell<Ordered<'a>>,
    far: OnceCell<Ordered<'a>>,
}

impl<'a> Ready<'a> {
    fn new(plan: &'a Plan, now: Duration) -> Self {
        Self { plan, now, near: OnceCell::new(), far: OnceCell::new() }
    }

    fn ordered(&self, peers: impl Iterator<Item = (NodeId, &'a Peer)>) -> Ordered<'a> {
        let mut able: Ordered<'_> = peers.filter(|(_, peer)| peer.has_room(self.now)).collect();
        able.sort_by_cached_key(|(node, peer)| self.plan.order(*node, peer));
        able
    }

    fn near(&self) -> &Ordered<'a> {
        let near = || self.plan.near.iter().filter_map(|node| Some((*node, self.plan.peers.get(node)?)));
        self.near.get_or_init(|| self.ordered(near()))
    }

    fn far(&self) -> &Ordered<'a> {
        let (mine, open) = (self.plan.turns.site(), self.plan.far_is_open);
        let far = || self.plan.peers.iter().filter(move |(_, peer)| open && peer.site != mine);
        self.far.get_or_init(|| self.ordered(far().map(|(node, peer)| (*node, peer))))
    }

    fn best_near(&self, may: impl Fn(&Peer) -> bool) -> Option<NodeId> {
        self.near().iter().find(|(_, peer)| may(peer)).map(|(node, _)| *node)
    }

    fn best(&self, may: impl Fn(&Peer) -> bool) -> Option<NodeId> {
        self.best_near(&may).or_else(|| self.far().iter().find(|(_, peer)| may(peer)).map(|(node, _)| *node))
    }
}
