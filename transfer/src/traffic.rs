//! What the byte path has done since it was opened, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::connection::Transport;
use crate::peers::Place;

/// How far away another node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// In the same rack.
    Rack,
    /// In another rack of the same site.
    Site,
    /// At another site.
    Wan,
}

impl Distance {
    /// All of them, the nearest first.
    pub const ALL: [Self; 3] = [Self::Rack, Self::Site, Self::Wan];

    pub(crate) fn between(here: &Place, there: &Place) -> Self {
        match (here.site == there.site, here.rack == there.rack) {
            (true, true) => Self::Rack,
            (true, false) => Self::Site,
            (false, _) => Self::Wan,
        }
    }
}

/// What was counted. Numbers only grow while the node runs, and begin at 0 when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of blobs that came from other nodes and were what they should be, by [`Distance::ALL`]
    /// and [`Transport::ALL`].
    pub received_bytes: [[u64; 2]; 3],
    /// Bytes of blobs that were sent to other nodes, by [`Distance::ALL`].
    pub sent_bytes: [u64; 3],
    /// Answers of other nodes with bytes that were not what they were asked for by.
    pub hash_failures: u64,
    /// Nodes not asked again by a pull, because they broke the protocol.
    pub bans: u64,
    /// Pulls that brought everything, and those that did not.
    pub pulls: [u64; 2],
    /// Downloads that began with all of the image here, and those that began without.
    pub cache: [u64; 2],
    /// Bytes that evictions have made room for.
    pub evicted_bytes: u64,
    /// Bytes read again by scrubs.
    pub scrubbed_bytes: u64,
}

/// The counters themselves.
#[derive(Default)]
pub(crate) struct Traffic {
    received_bytes: [[AtomicU64; 2]; 3],
    sent_bytes: [AtomicU64; 3],
    hash_failures: AtomicU64,
    bans: AtomicU64,
    pulls: [AtomicU64; 2],
    cache: [AtomicU64; 2],
    evicted_bytes: AtomicU64,
    scrubbed_bytes: AtomicU64,
}

impl Traffic {
    pub(crate) fn received(&self, distance: Distance, over: Transport, bytes: u64) {
        add(&self.received_bytes[distance as usize][over as usize], bytes);
    }

    pub(crate) fn sent(&self, distance: Distance, bytes: u64) {
        add(&self.sent_bytes[distance as usize], bytes);
    }

    pub(crate) fn hash_failed(&self) {
        add(&self.hash_failures, 1);
    }

    pub(crate) fn banned(&self) {
        add(&self.bans, 1);
    }

    pub(crate) fn pulled(&self, all: bool) {
        add(&self.pulls[usize::from(!all)], 1);
    }

    pub(crate) fn downloaded(&self, was_here: bool) {
        add(&self.cache[usize::from(!was_here)], 1);
    }

    pub(crate) fn evicted(&self, bytes: u64) {
        add(&self.evicted_bytes, bytes);
    }

    pub(crate) fn scrubbed(&self, bytes: u64) {
        add(&self.scrubbed_bytes, bytes);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            received_bytes: self.received_bytes.each_ref().map(|over| over.each_ref().map(get)),
            sent_bytes: self.sent_bytes.each_ref().map(get),
            hash_failures: get(&self.hash_failures),
            bans: get(&self.bans),
            pulls: self.pulls.each_ref().map(get),
            cache: self.cache.each_ref().map(get),
            evicted_bytes: get(&self.evicted_bytes),
            scrubbed_bytes: get(&self.scrubbed_bytes),
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
