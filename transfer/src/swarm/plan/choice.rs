//! Choosing: what the rules of the plan come to at one moment.

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
        let ruled = self.for_readers(now).or_else(|| self.on_duty(now)).or_else(|| self.spread(now));
        if let Some(fetch) = ruled {
            self.idle_since = None;
            return Some(self.take_off(fetch, now));
        }
        let since = *self.idle_since.get_or_insert(now);
        if let Some(fetch) = self.relaxed(now) {
            return Some(self.take_off(fetch, now));
        }
        if now.saturating_sub(since) < DESPERATE_AFTER {
            return None;
        }
        let fetch = self.desperate(now)?;
        self.idle_since = Some(since + DESPERATE_PAUSE);
        Some(self.take_off(fetch, now))
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
        let late = self.peers.values().flat_map(Peer::late_flights(now));
        let (bytes, count) = late
            .fold((0, 0), |(bytes, count), piece| (bytes + u64::from(self.pieces[piece].bytes), count + 1));
        full(self.flying - bytes, self.flights - count)
    }

    /// Whether more may be asked of other sites. What is late does not count there, either.
    fn far_has_room(&self, now: Duration) -> bool {
        if self.far_window.has_room(self.far_flights) {
            return true;
        }
        let far = self.peers.values().filter(|peer| peer.site != self.turns.site());
        let late: usize = far.map(|peer| Peer::late_flights(now)(peer).len()).sum();
        self.far_window.has_room(self.far_flights - late)
    }

    fn take_off(&mut self, fetch: Fetch, now: Duration) -> Fetch {
        let bytes = self.pieces[fetch.piece].bytes;
        if let Some(peer) = self.peers.get_mut(&fetch.from) {
            peer.flights.insert(fetch.piece, Flight { bytes, since: now });
            self.far_flights += usize::from(peer.site != self.turns.site());
            self.flying += u64::from(bytes);
            self.flights += 1;
            self.pieces[fetch.piece].flights += 1;
            self.refile(fetch.piece);
        }
        fetch
    }

    /// What readers wait for: by the rules if they allow it, and if they wait too long, of anybody.
    fn for_readers(&self, now: Duration) -> Option<Fetch> {
        for cursor in &self.cursors {
            let end = (cursor.piece + CURSOR_WINDOW).min(self.pieces.len());
            for piece in (cursor.piece..end).filter(|piece| self.wanted.contains(piece)) {
                if let Some(from) = self.near_holder(piece, now).or_else(|| self.duty_source(piece, now)) {
                    return Some(Fetch { piece, from });
                }
                let steps = u32::from(self.pieces[piece].rank.min(RELAXED_STEPS_MAX));
                let patience = READER_PATIENCE + RELAXED_STEP * steps;
                if piece == cursor.piece
                    && now.saturating_sub(cursor.since) > patience
                    && let Some(from) = self.best(|peer| peer.has(piece) && peer.has_room(now))
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

    fn on_duty(&self, now: Duration) -> Option<Fetch> {
        let looked = self.duties.iter().take(LOOK_MAX);
        looked.copied().find_map(|piece| Some(Fetch { piece, from: self.duty_source(piece, now)? }))
    }

    fn spread(&self, now: Duration) -> Option<Fetch> {
        let site = self.turns.site();
        if !self.peers.values().any(|peer| peer.site == site && !peer.seed && peer.has_room(now)) {
            return None;
        }
        let looked = self.open.iter().take(LOOK_MAX).copied();
        let fetches =
            looked.filter_map(|(_, _, piece)| Some(Fetch { piece, from: self.near_holder(piece, now)? }));
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
    fn relaxed(&self, now: Duration) -> Option<Fetch> {
        let site = self.turns.site();
        if !self.peers.values().any(|peer| peer.site == site && peer.is_idle_for(RELAXED_AFTER, now)) {
            return None;
        }
        for piece in self.wanted.iter().rev().take(LOOK_MAX).copied() {
            let steps = self.pieces[piece].rank.clamp(1, RELAXED_STEPS_MAX) - 1;
            let patience = RELAXED_AFTER + RELAXED_STEP * u32::from(steps);
            let idle = |peer: &Peer| peer.site == site && peer.is_idle_for(patience, now);
            if let Some(from) = self.best(|peer| idle(peer) && peer.has(piece) && peer.has_room(now)) {
                return Some(Fetch { piece, from });
            }
        }
        None
    }

    /// Whatever there is, of anybody; what is long on its way of another as well.
    fn desperate(&self, now: Duration) -> Option<Fetch> {
        let of_anybody = self.wanted.iter().take(LOOK_MAX).copied().find_map(|piece| {
            let from = self.best(|peer| peer.has(piece) && peer.has_room(now))?;
            Some(Fetch { piece, from })
        });
        let late = || {
            let mut flights = self.peers.values().flat_map(Peer::late_flights(now));
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
        let asked = self.peers.values().find(|peer| peer.flights.contains_key(&piece))?;
        if !Peer::late_flights(now)(asked).contains(&piece) {
            return None;
        }
        let may = |peer: &Peer| peer.has(piece) && !peer.flights.contains_key(&piece);
        Some(Fetch { piece, from: self.best(may)? })
    }

    /// The least busy of the near nodes that have it and are no seeds.
    fn near_holder(&self, piece: usize, now: Duration) -> Option<NodeId> {
        if self.pieces[piece].near == 0 {
            return None;
        }
        let site = self.turns.site();
        self.best(|peer| peer.site == site && !peer.seed && peer.has(piece) && peer.has_room(now))
    }

    /// Whom a node on duty asks.
    fn duty_source(&self, piece: usize, now: Duration) -> Option<NodeId> {
        if self.pieces[piece].near > 0 || self.pieces[piece].rank != 0 {
            return None;
        }
        let far = self.far_is_open;
        let mine = self.turns.site();
        let order = self.turns.order(piece, |seed| self.peers.get(&seed).is_some_and(|peer| peer.has(piece)));
        let Some(order) = order else { return self.best(|peer| peer.has(piece) && peer.has_room(now)) };
        match order.seed {
            Some(seed) => {
                let able = |peer: &Peer| peer.has_room(now) && (far || peer.site == mine);
                self.peers.get(&seed).is_some_and(able).then_some(seed)
            }
            None if self.pieces[piece].far == 0 || !far => None,
            None => self.best(|peer| {
                !peer.seed && peer.has(piece) && peer.has_room(now) && order.sites.contains(&peer.site)
            }),
        }
    }

    fn best(&self, may: impl Fn(&Peer) -> bool) -> Option<NodeId> {
        let mine = self.turns.site();
        let far = self.far_is_open;
        let able = self.peers.iter().filter(|(_, peer)| (far || peer.site == mine) && may(peer));
        able.min_by_key(|(node, peer)| (peer.site != mine, peer.cost(), mix(self.seed, node.0)))
            .map(|(node, _)| *node)
    }
}
