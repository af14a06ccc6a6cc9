//! Which pieces a pull has, in the order in which it got them, for whoever follows it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// See the module.
pub(crate) struct Having {
    pieces: Mutex<Vec<u32>>,
    count: watch::Sender<usize>,
}

impl Default for Having {
    fn default() -> Self {
        Self { pieces: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Having {
    // Each critical section is one step on the list.
    fn pieces(&self) -> MutexGuard<'_, Vec<u32>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These pieces can be read from now on. Each is added once.
    pub(super) fn add(&self, pieces: impl Iterator<Item = usize>) {
        let mut list = self.pieces();
        list.extend(pieces.map(|piece| piece as u32));
        let count = list.len();
        drop(list);
        self.count.send_replace(count);
    }

    /// Up to `most` pieces after the first `seen`.
    pub(super) fn after(&self, seen: usize, most: usize) -> Vec<u32> {
        self.pieces().iter().skip(seen).take(most).copied().collect()
    }

    /// Changes whenever there are more.
    pub(super) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}
