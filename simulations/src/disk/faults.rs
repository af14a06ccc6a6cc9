//! Which faults the disks of one run have, and how often.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::chronicle::Chronicle;
use crate::dice::Dice;
use crate::invariants::same_state::States;
use crate::mutation::Mutation;

/// Counted whenever an append to a pack finds no room.
pub(super) const PACKS_FULL: &str = "F-D8 pack disk full";
/// Counted whenever a batch finds its database full.
pub(super) const DATABASE_FULL: &str = "F-D8 database full";
/// What explains an answer of 413.
pub(crate) const DISK_FULL: [&str; 2] = [PACKS_FULL, DATABASE_FULL];

/// One of the things a node syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The Raft log.
    Log,
    /// The catalog.
    State,
    /// The index of chunks.
    Index,
    /// The bytes of a pack.
    Pack,
    /// The list of packs.
    Directory,
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::State => "state",
            Self::Index => "index",
            Self::Pack => "pack",
            Self::Directory => "packs",
        }
    }
}

/// The faults of one machine. Shared by its disks; off unless armed.
pub(crate) struct DiskFaults {
    pub(crate) chronicle: Chronicle,
    node: usize,
    /// Put before the names of its places in the chronicle.
    label: String,
    /// What the catalogs of all nodes hold.
    states: Arc<Mutex<States>>,
    mutation: Option<Mutation>,
    armed: AtomicBool,
    /// Most bytes the packs may take together.
    packs_bytes_max: AtomicU64,
    /// A usual sync takes less than so many milliseconds. Where that is more than a message takes, followers
    /// have on disk what their leader has not.
    sync_ms_end: u64,
    /// Syncs that take long, in 1,000.
    slow_per_mille: u64,
    drawn: Mutex<Drawn>,
}

struct Drawn {
    dice: Dice,
    /// Syncs that fail, in 1,000, and how many may.
    failing_syncs: (u64, u64),
    /// Reads and writes that fail, in 1,000, and how many may.
    failing_calls: (u64, u64),
    /// Batches that find their database full, in 1,000, and how many may.
    full_databases: (u64, u64),
}

impl DiskFaults {
    /// Draw the faults of a node's machine in the run `seed`. Each class is off in about half of the
    /// runs, so that some runs have much of one and others a bit of all.
    pub(crate) fn draw(
        seed: u64,
        node: usize,
        mutation: Option<Mutation>,
        states: Arc<Mutex<States>>,
        chronicle: Chronicle,
    ) -> Arc<Self> {
        let mut dice = Dice::new(seed, &format!("disk faults of node {node}"));
        let mut class = |per_mille, times| if dice.chance(500) { (per_mille, times) } else { (0, 0) };
        let failing_syncs = class(12, 2);
        let failing_calls = class(4, 3);
        let full_databases = class(3, 1);
        let slow_per_mille = class(40, 0).0;
        let sync_ms_end = *Dice::new(seed, &format!("disk of node {node}")).pick(&[6, 6, 30]);
        Arc::new(Self {
            chronicle,
            node,
            label: format!("{node}."),
            states,
            mutation,
            armed: AtomicBool::new(false),
            packs_bytes_max: AtomicU64::new(u64::MAX),
            sync_ms_end,
            slow_per_mille,
            drawn: Mutex::new(Drawn { dice, failing_syncs, failing_calls, full_databases }),
        })
    }

    /// Disks without any fault, for their own tests.
    #[cfg(test)]
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self {
            chronicle: Chronicle::default(),
            node: 0,
            label: String::new(),
            states: Arc::default(),
            mutation: None,
            armed: AtomicBool::new(false),
            packs_bytes_max: AtomicU64::new(u64::MAX),
            sync_ms_end: 6,
            slow_per_mille: 0,
            drawn: Mutex::new(Drawn {
                dice: Dice::new(1, "none"),
                failing_syncs: (0, 0),
                failing_calls: (0, 0),
                full_databases: (0, 0),
            }),
        })
    }

    /// Write an event at `place` down.
    pub(crate) fn note(&self, place: Place, event: std::fmt::Arguments<'_>) {
        self.chronicle.note(&format!("{}{}", self.label, place.name()), event);
    }

    /// Let faults happen, or not. Crashes lose unsynced writes either way.
    pub(crate) fn arm(&self, armed: bool) {
        self.armed.store(armed, Ordering::Relaxed);
    }

    /// Set how many bytes the packs may take together.
    pub(crate) fn limit_packs(&self, bytes_max: u64) {
        self.packs_bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// How many bytes the packs may take together.
    pub(crate) fn packs_bytes_max(&self) -> u64 {
        self.packs_bytes_max.load(Ordering::Relaxed)
    }

    /// Whether a known bug makes syncs of `place` lie (F-D13).
    pub(crate) fn lies(&self, place: Place) -> bool {
        let lying = match self.mutation {
            Some(Mutation::AckBeforeFsync) => Place::Log,
            Some(Mutation::PackSyncSkipped) => Place::Pack,
            Some(Mutation::DirectorySyncSkipped) => Place::Directory,
            Some(_) | None => return false,
        };
        if lying == place {
            self.chronicle.count("F-D13 sync that lied");
        }
        lying == place
    }

    /// The catalog has this digest once it carries the applied mark `mark`.
    pub(super) fn compare_state(&self, mark: &[u8], digest: u128) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(drifted) = states.check(self.node, mark, digest) {
            self.chronicle.violate(drifted);
        }
    }

    /// Whether a known bug is put back.
    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// How long the next sync takes.
    pub(crate) fn sync_time(&self) -> Duration {
        let mut drawn = self.locked();
        let slow = self.is_armed() && drawn.dice.chance(self.slow_per_mille);
        let millis = if slow { drawn.dice.between(50, 800) } else { drawn.dice.below(self.sync_ms_end) };
        drop(drawn);
        if slow {
            self.chronicle.count("F-D9 slow sync");
        }
        Duration::from_millis(millis)
    }

    /// Whether the next sync of `place` fails (F-D5).
    pub(crate) fn fails_sync(&self, place: Place) -> bool {
        let Drawn { dice, failing_syncs: (per_mille, left), .. } = &mut *self.locked();
        // The log is synced at every write. What is synced rarely has to fail more often.
        let times = match place {
            Place::Log => 1,
            Place::State | Place::Index | Place::Pack => 6,
            Place::Directory => 12,
        };
        let mut chance = (*per_mille * times, *left);
        let fails = self.is_armed() && fires(dice, &mut chance);
        *left = chance.1;
        fails
    }

    /// Whether the next read or append of a pack fails (F-D4).
    pub(crate) fn fails_call(&self) -> bool {
        let Drawn { dice, failing_calls, .. } = &mut *self.locked();
        self.is_armed() && fires(dice, failing_calls)
    }

    /// Whether the next batch finds its database full (F-D8).
    pub(crate) fn fills_database(&self) -> bool {
        let Drawn { dice, full_databases, .. } = &mut *self.locked();
        self.is_armed() && fires(dice, full_databases)
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Drawn> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fires(dice: &mut Dice, (per_mille, left): &mut (u64, u64)) -> bool {
    let fires = *left > 0 && dice.chance(*per_mille);
    *left -= u64::from(fires);
    fires
}
