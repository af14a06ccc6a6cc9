//! What happens to the datagrams between nodes on their way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dice::Dice;

/// How bad it is. The default is a network without faults and without limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Datagrams lost, in 1,000 (F-N1).
    pub(crate) lost: u64,
    /// Datagrams that arrive twice, in 1,000 (F-N2).
    pub(crate) doubled: u64,
    /// Datagrams with one bit changed, in 1,000 (F-N8).
    pub(crate) corrupted: u64,
    /// Longest extra delay. Datagrams to one node stay in order: a network that reorders everything
    /// carries no bulk data at all, and tests nothing but that.
    pub(crate) jitter_ms_max: u64,
    /// What a node's link carries to each other node; 0 for no limit.
    pub(crate) bytes_per_ms: u64,
}

impl Conditions {
    /// Draw a bad day. Each class is off in half of them.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut class = |max| if dice.chance(500) { 1 + dice.below(max) } else { 0 };
        Self {
            lost: class(60),
            doubled: class(100),
            corrupted: class(10),
            jitter_ms_max: class(40),
            // From 2 to 100 Mbit/s.
            bytes_per_ms: class(50) * 250,
        }
    }
}

/// The conditions now. Clones share them; the world changes them.
#[derive(Clone, Default)]
pub(crate) struct Weather(Arc<Mutex<Conditions>>);

impl Weather {
    pub(crate) fn set(&self, conditions: Conditions) {
        *self.locked() = conditions;
    }

    pub(crate) fn get(&self) -> Conditions {
        *self.locked()
    }

    fn locked(&self) -> MutexGuard<'_, Conditions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
