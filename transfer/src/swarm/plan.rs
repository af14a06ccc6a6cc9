//! Which piece a node asks of whom next.
//!
//! # How a swarm shares out one copy
//!
//! For each piece and site one node is *on duty*: the first by a hash of both among the site's nodes
//! that pull. Only it fetches the piece from outside or from a seed; the others wait for it and take the piece
//! from whoever of their site has it, rarest pieces first. So a seed sends one copy, each WAN link carries one,
//! and every node passes on an equal part. Nodes on duty take their pieces in the order of the image:
//! since each has others, this costs no diversity, and all readers can follow.
//!
//! A *seed* had the whole image when it was first heard of. Nodes that completed it meanwhile are asked like
//! any other.
//!
//! # What it promises
//!
//! * Nobody is waited for in vain: what a near node that is idle could give may be asked of it out of turn,
//!   and a node that has had nothing to ask for during seconds may ask anybody.
//! * What is asked for and not there yet is bounded (`plan/choice.rs`).
//!
//! # What it leaves to others
//!
//! Whether bytes are what they should be, and whom to hear of.

mod choice;
mod pace;
mod peer;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerglass_catalog::NodeId;

use pace::Window;
use peer::{Flight, Peer};
use turns::{Turns, mix};

/// A piece to be asked of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) piece: usize,
    pub(crate) from: NodeId,
}

/// Why a piece did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// The other one does not have it, whatever it said.
    NotThere,
    /// It is too busy.
    Busy,
}

/// What is known of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The pages that name its chunks are not all here.
    Unknown,
    Wanted,
    Had,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    state: State,
    /// Bytes to fetch, once that is known.
    bytes: u32,
    /// Nodes it is being fetched from.
    flights: u8,
    /// Nodes of this site, no seeds, that have it.
    near: u32,
    /// Nodes of other sites, no seeds, that have it.
    far: u32,
    /// How many nodes of this site come before this one. 0: it is on duty.
    rank: u8,
    /// Where it stands in `open`.
    filed: Option<u32>,
}

/// A reader's place.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    piece: usize,
    since: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plan {
    seed: u64,
    pieces: Vec<Piece>,
    peers: BTreeMap<NodeId, Peer>,
    /// Those of this site.
    near: BTreeSet<NodeId>,
    /// Those that are asked for something.
    asked: BTreeSet<NodeId>,
    turns: Turns,
    /// Pieces that are wanted and asked of nobody.
    wanted: BTreeSet<usize>,
    /// Those of them that this node is on duty for and that no near node has.
    duties: BTreeSet<usize>,
    /// Those of them that a near node has: by how many have it, then by chance.
    open: BTreeSet<(u32, u64, usize)>,
    cursors: Vec<Cursor>,
    flying: u64,
    flights: usize,
    left: usize,
    /// Since when there is nothing to ask for, though something is missing.
    idle_since: Option<Duration>,
    /// Pieces asked for at other sites, and how many may be.
    far_flights: usize,
    far_window: Window,
    /// Whether one more may be, as of the last choice.
    far_is_open: bool,
}

impl Plan {
    /// Of a manifest of `count` pieces, for the node `me` at `site`. Equal seeds make equal choices.
    pub(crate) fn new(me: NodeId, site: u64, count: usize, seed: u64) -> Self {
        let unknown =
            Piece { state: State::Unknown, bytes: 0, flights: 0, near: 0, far: 0, rank: 0, filed: None };
        Self {
            seed,
            pieces: vec![unknown; count],
            peers: BTreeMap::new(),
            near: BTreeSet::new(),
            asked: BTreeSet::new(),
            turns: Turns::new(me, site),
            wanted: BTreeSet::new(),
            duties: BTreeSet::new(),
            open: BTreeSet::new(),
            cursors: Vec::new(),
            flying: 0,
            flights: 0,
            left: count,
            idle_since: None,
            far_flights: 0,
            far_window: Window::far(),
            far_is_open: true,
        }
    }

    /// How many pieces there are.
    pub(crate) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// Whether a piece is here.
    pub(crate) fn is_here(&self, piece: usize) -> bool {
        self.pieces[piece].state == State::Had
    }

    /// How many pieces are not here yet.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    // What is known of pieces.

    /// The piece lacks `bytes` bytes; none is that it is here.
    pub(crate) fn know(&mut self, piece: usize, bytes: u32) {
        if self.pieces[piece].state == State::Unknown {
            self.pieces[piece].bytes = bytes;
            self.pieces[piece].state = State::Wanted;
            if bytes == 0 { self.had(piece) } else { self.refile(piece) }
        }
    }

    /// The piece is here.
    fn had(&mut self, piece: usize) {
        if self.pieces[piece].state != State::Had {
            self.pieces[piece].state = State::Had;
            self.left -= 1;
            self.refile(piece);
        }
    }

    /// Readers wait for these pieces, each for its own and the next ones.
    pub(crate) fn read_at(&mut self, cursors: impl Iterator<Item = usize>, now: Duration) {
        let since = |piece| self.cursors.iter().find(|cursor| cursor.piece == piece).map_or(now, |c| c.since);
        self.cursors = cursors.map(|piece| Cursor { piece, since: since(piece) }).collect();
    }

    // What is heard of peers.

    /// A peer is there that pulls, or has it all.
    pub(crate) fn joined(&mut self, peer: NodeId, site: u64, near_rack: bool) {
        if !self.peers.contains_key(&peer) {
            self.peers
                .insert(peer, Peer::new((site, site == self.turns.site()), near_rack, self.pieces.len()));
            self.turns.joined(peer, site);
            let near = site == self.turns.site();
            if near {
                self.near.insert(peer);
            }
            self.members_changed(near);
        }
    }

    /// A peer has all of it.
    pub(crate) fn is_whole(&mut self, peer: NodeId) {
        let site = self.turns.site();
        let Some(found) = self.peers.get_mut(&peer) else { return };
        if found.seed {
            // What it turned out to lack it still lacks.
        } else if found.has_nothing() {
            found.seed = true;
            found.fill();
            let near = found.site == site;
            self.turns.is_seed(peer);
            self.members_changed(near);
        } else if !found.completed {
            found.completed = true;
            let news = found.fill();
            let near = found.site == site;
            news.into_iter().for_each(|piece| self.one_more_has(piece, near));
            self.turns.completed(peer);
            self.members_changed(near);
        }
    }

    /// A peer has one piece more.
    pub(crate) fn has(&mut self, peer: NodeId, piece: usize) {
        let site = self.turns.site();
        if let Some(found) = self.peers.get_mut(&peer)
            && !found.seed
            && found.add(piece)
        {
            let near = found.site == site;
            self.one_more_has(piece, near);
        }
    }

    fn one_more_has(&mut self, piece: usize, near: bool) {
        if near {
            self.pieces[piece].near += 1;
            self.refile(piece);
        } else {
            self.pieces[piece].far += 1;
        }
    }

    fn one_less_has(&mut self, piece: usize, near: bool) {
        if near {
            self.pieces[piece].near -= 1;
            self.refile(piece);
        } else {
            self.pieces[piece].far -= 1;
        }
    }

    /// A peer has so many bytes to send before whatever is asked of it now.
    pub(crate) fn backlog(&mut self, peer: NodeId, bytes: u64, now: Duration) {
        if let Some(found) = self.peers.get_mut(&peer) {
            found.says(bytes, now);
        }
    }

    /// A peer is gone, or not to be asked any more.
    pub(crate) fn left_by(&mut self, peer: NodeId) {
        let Some(gone) = self.peers.remove(&peer) else { return };
        for (piece, flight) in &gone.flights {
            self.landed(*piece, *flight, (peer, gone.site));
        }
        let near = gone.site == self.turns.site();
        self.near.remove(&peer);
        if !gone.seed {
            gone.pieces().for_each(|piece| self.one_less_has(piece, near));
        }
        self.turns.left(peer);
        self.members_changed(near);
    }

    // What came of what was asked.

    /// A piece came from `peer`, and is kept. Answers with who else was asked for it and need not send it.
    #[must_use]
    pub(crate) fn got(&mut self, piece: usize, peer: NodeId, now: Duration) -> Vec<NodeId> {
        if let Some(found) = self.peers.get_mut(&peer)
            && let Some(flight) = found.arrived(piece, now)
        {
            let site = found.site;
            if site != self.turns.site() {
                self.far_window.arrived(now.saturating_sub(flight.since));
            }
            self.landed(piece, flight, (peer, site));
        }
        self.had(piece);
        let asked = self.asked.iter().copied();
        let others: Vec<_> = asked
            .filter(|node| self.peers.get(node).is_some_and(|peer| peer.flights.contains_key(&piece)))
            .collect();
        for other in &others {
            if let Some(found) = self.peers.get_mut(other)
                && let Some(flight) = found.taken_back(piece, now)
            {
                let site = found.site;
                self.landed(piece, flight, (*other, site));
            }
        }
        others
    }

    /// A piece did not come from `peer`.
    pub(crate) fn missed(&mut self, piece: usize, peer: NodeId, why: Setback, now: Duration) {
        let Some(found) = self.peers.get_mut(&peer) else { return };
        let (flight, site) = (found.missed(piece, why, now), found.site);
        if why == Setback::NotThere && found.remove(piece) && !found.seed {
            self.one_less_has(piece, site == self.turns.site());
        }
        if let Some(flight) = flight {
            self.landed(piece, flight, (peer, site));
        }
        self.refile(piece);
    }

    fn landed(&mut self, piece: usize, flight: Flight, (peer, site): (NodeId, u64)) {
        if self.peers.get(&peer).is_none_or(|peer| peer.flights.is_empty()) {
            self.asked.remove(&peer);
        }
        self.flying -= u64::from(flight.bytes);
        self.flights -= 1;
        self.far_flights -= usize::from(site != self.turns.site());
        self.pieces[piece].flights -= 1;
        self.refile(piece);
    }

    // Where each piece stands.

    /// A member has come or gone or does something else, at this site or another.
    fn members_changed(&mut self, near: bool) {
        // Nobody elsewhere has a rank here.
        for piece in (0..self.pieces.len()).filter(|_| near) {
            if self.pieces[piece].state != State::Had {
                self.pieces[piece].rank = self.turns.rank(piece);
                self.refile(piece);
            }
        }
    }

    /// Put the piece where it belongs now.
    fn refile(&mut self, piece: usize) {
        let Piece { state, flights, near, rank, filed, .. } = self.pieces[piece];
        let salt = mix(self.seed, piece as u64);
        let wanted = state == State::Wanted && flights == 0;
        if let Some(filed) = filed {
            self.open.remove(&(filed, salt, piece));
        }
        let open = (wanted && near > 0).then_some(near);
        self.pieces[piece].filed = open;
        if let Some(near) = open {
            self.open.insert((near, salt, piece));
        }
        set(&mut self.wanted, piece, wanted);
        set(&mut self.duties, piece, wanted && near == 0 && rank == 0);
    }
}

#[cfg(test)]
impl Plan {
    /// Whether everything that is counted is what there is.
    pub(crate) fn is_sound(&self) -> bool {
        let passers = |near: bool, piece: usize| {
            let site = self.turns.site();
            let able = self.peers.values().filter(|peer| !peer.seed && (peer.site == site) == near);
            able.filter(|peer| peer.has(piece)).count() as u32
        };
        let flights =
            |piece: usize| self.peers.values().filter(|peer| peer.flights.contains_key(&piece)).count();
        let pieces = self.pieces.iter().enumerate().all(|(at, piece)| {
            let wanted = piece.state == State::Wanted && piece.flights == 0;
            piece.near == passers(true, at)
                && piece.far == passers(false, at)
                && usize::from(piece.flights) == flights(at)
                && self.wanted.contains(&at) == wanted
                && piece.filed.is_some() == (wanted && piece.near > 0)
        });
        let all: usize = self.peers.values().map(|peer| peer.flights.len()).sum();
        let ids = |is: &dyn Fn(&Peer) -> bool| -> BTreeSet<NodeId> {
            self.peers.iter().filter(|(_, peer)| is(peer)).map(|(node, _)| *node).collect()
        };
        pieces
            && self.near == ids(&|peer| peer.site == self.turns.site())
            && self.asked == ids(&|peer| !peer.flights.is_empty())
            && self.flights == all
            && self.open.len() == self.pieces.iter().filter(|p| p.filed.is_some()).count()
    }
}

fn set(pieces: &mut BTreeSet<usize>, piece: usize, in_it: bool) {
    if in_it {
        pieces.insert(piece);
    } else {
        pieces.remove(&piece);
    }
}
