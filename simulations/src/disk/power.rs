//! The power switch of one life of a node.
//!
//! Every disk operation passes [`Power::operation`]. It counts them, and at the drawn one switches
//! off: from there on plain writes no longer reach the disk and syncs never return, although the
//! doomed process still sees its own writes until the world takes it down.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One life's power. All fields are plain counters: a simulation has one thread.
#[derive(Debug)]
pub(crate) struct Power {
    operations: AtomicU64,
    off_at: AtomicU64,
    off: AtomicBool,
    faulted: AtomicBool,
}

impl Power {
    /// Power that fails at disk operation `off_at`, counted from 1; `None` for never.
    pub(crate) fn new(off_at: Option<u64>) -> Self {
        Self {
            operations: AtomicU64::new(0),
            off_at: AtomicU64::new(off_at.unwrap_or(u64::MAX)),
            off: AtomicBool::new(false),
            faulted: AtomicBool::new(false),
        }
    }

    /// Count an operation. False if power is off, before it or because of it.
    pub(crate) fn operation(&self) -> bool {
        let count = self.operations.fetch_add(1, Ordering::Relaxed) + 1;
        if count >= self.off_at.load(Ordering::Relaxed) {
            self.off.store(true, Ordering::Relaxed);
        }
        self.is_on()
    }

    /// Whether writes still reach the disk.
    pub(crate) fn is_on(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    /// No write of this life reaches the disk any more.
    pub(crate) fn switch_off(&self) {
        self.off.store(true, Ordering::Relaxed);
    }

    /// Fail at the disk operation that comes as number `operation` from now.
    pub(crate) fn fail_in(&self, operation: u64) {
        self.off_at.store(self.operations() + operation, Ordering::Relaxed);
    }

    /// Forget the drawn operation: the rest of this life is undisturbed.
    pub(crate) fn spare(&self) {
        self.off_at.store(u64::MAX, Ordering::Relaxed);
    }

    /// Remember that this life was told of a disk fault, so that it may give up.
    pub(crate) fn mark_faulted(&self) {
        self.faulted.store(true, Ordering::Relaxed);
    }

    /// Whether this life was told of a disk fault.
    pub(crate) fn is_faulted(&self) -> bool {
        self.faulted.load(Ordering::Relaxed)
    }

    /// Disk operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }
}
