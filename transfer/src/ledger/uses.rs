//! When manifests were used last, as an order: what is let go first when there is no room for all.
//!
//! Each use that is noted gets the next number. Losing some, as in a power cut, lets go of another
//! manifest first and harms nothing, so a failure is nobody's.

use std::collections::BTreeMap;
use std::time::Duration;

use peerglass_catalog::ManifestRoot;
use peerglass_catalog::keyspace::Fault;
use tokio::time::Instant;

use super::{Ledger, ROWS_PER_BATCH, Working};
use crate::index::{self, Place};

/// A use this soon after one that was noted is not noted: a busy image costs no writes.
const NOTED_EVERY: Duration = Duration::from_mins(10);
/// Manifests whose last note is remembered. Beyond that all are forgotten, and noted once more.
const REMEMBERED_MAX: usize = 65_536;

/// What is known of uses while the process runs.
pub(super) struct Uses {
    next: u64,
    noted: BTreeMap<ManifestRoot, Instant>,
}

impl Uses {
    pub(super) fn new(next: u64) -> Self {
        Self { next, noted: BTreeMap::new() }
    }

    /// Put a use of `root` into the batch.
    pub(super) fn note(&mut self, working: &mut Working<'_>, root: &ManifestRoot) {
        if self.noted.len() >= REMEMBERED_MAX {
            self.noted.clear();
        }
        self.noted.insert(*root, Instant::now());
        working.put_use(root, self.next);
        self.next += 1;
    }

    fn is_noted(&self, root: &ManifestRoot) -> bool {
        self.noted.get(root).is_some_and(|at| at.elapsed() < NOTED_EVERY)
    }

    pub(super) fn forget(&mut self, root: &ManifestRoot) {
        self.noted.remove(root);
    }
}

impl Ledger {
    /// Somebody reads `root`, here or on another node.
    pub(crate) fn used(&self, root: &ManifestRoot) {
        let mut state = self.locked();
        if state.uses.is_noted(root) {
            return;
        }
        let mut working = Working::new(&*self.index);
        if let Ok(Some(_)) = working.held(root) {
            state.uses.note(&mut working, root);
            if let Err(fault) = working.write() {
                tracing::debug!(%fault, manifest = %root.0, "a use was not noted");
            }
        }
    }

    /// Note up to where manifests are scrubbed.
    pub(crate) fn note_scrubbed(&self, last: Option<&ManifestRoot>) -> Result<(), Fault> {
        let _state = self.locked();
        let mut working = Working::new(&*self.index);
        working.put_scrubbed(last);
        working.write()
    }

    /// Bytes of the blobs that nobody names and that the next reclaim removes.
    pub(crate) fn unnamed_bytes(&self) -> Result<u64, Fault> {
        let (mut bytes, mut after) = (0, None);
        loop {
            let zeros = index::zeros_after(&*self.index, after.as_ref(), ROWS_PER_BATCH)?;
            let Some(last) = zeros.last() else { return Ok(bytes) };
            after = Some(*last);
            for digest in &zeros {
                let Some(blob) = self.blob(digest)? else { continue };
                let is_swept = |place: Place| !self.locked().checkpoints.contains_key(&place.pack);
                if blob.place.is_some_and(is_swept) {
                    bytes += u64::from(blob.form.stored_len());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use peerglass_catalog::{Digest, MemoryKeyspace};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_use_counts_once_in_ten_minutes_and_goes_with_the_manifest() {
        let index = Arc::new(MemoryKeyspace::new());
        let [first, second] = [1, 2].map(|seed| ManifestRoot(Digest([seed; 32])));
        let last = |root| index::last_use(&*index, &root).unwrap();
        let ledger = Ledger::new(index.clone(), 0, std::iter::empty()).unwrap();
        ledger.used(&first);
        assert_eq!(last(first), 0, "it is not held");
        for root in [first, second] {
            ledger.begin_hold(&root).unwrap();
        }
        assert!(0 < last(first) && last(first) < last(second));
        tokio::time::advance(NOTED_EVERY - Duration::from_secs(1)).await;
        ledger.used(&first);
        assert!(last(first) < last(second), "too soon");
        tokio::time::advance(Duration::from_secs(1)).await;
        ledger.used(&first);
        assert!(last(second) < last(first));
        // After a restart the numbers go on.
        let ledger = Ledger::new(index.clone(), 0, std::iter::empty()).unwrap();
        ledger.used(&second);
        assert!(last(first) < last(second));
        let question = ledger.question(&second).unwrap();
        assert!(ledger.begin_drop(&second, question).unwrap());
        assert_eq!(last(second), 0);
    }
}
