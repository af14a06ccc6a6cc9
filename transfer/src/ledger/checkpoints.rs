//! Packs with what a pull brought that has not ended, or not well: nobody names it, and the next pull needs it.

use std::collections::BTreeSet;
use std::time::Duration;

use peerglass_catalog::keyspace::Fault;
use tokio::time::Instant;

use super::{Ledger, ROWS_PER_BATCH, State, Working};
use crate::disk::PackId;
use crate::index;

impl Ledger {
    /// Leave alone what nobody names in `pack`, from now on.
    pub(crate) fn note_checkpoint(&self, pack: PackId) -> Result<(), Fault> {
        let mut state = self.locked();
        let mut working = Working::new(&*self.index);
        working.put_checkpoint(pack);
        working.write()?;
        state.checkpoints.insert(pack, Instant::now());
        state.held += 1;
        Ok(())
    }

    /// What is live in `old` is in `new` from now on.
    pub(crate) fn pass_checkpoint_on(&self, old: PackId, new: PackId) -> Result<(), Fault> {
        let mut state = self.locked();
        let Some(made) = state.checkpoints.get(&old).copied() else { return Ok(()) };
        let mut working = Working::new(&*self.index);
        working.put_checkpoint(new);
        working.write()?;
        state.checkpoints.insert(new, made);
        Ok(())
    }

    /// Those of these packs in which everything is named are checkpoints no longer. In another there is something left
    /// that the pull which made it still needs.
    pub(crate) fn end_checkpoints(&self, packs: &BTreeSet<PackId>) -> Result<(), Fault> {
        let mut over: BTreeSet<PackId> =
            self.locked().checkpoints.keys().filter(|pack| packs.contains(pack)).copied().collect();
        // Without the lock: there may be many, and what changes meanwhile does no harm.
        let mut after = None;
        while !over.is_empty() {
            let zeros = index::zeros_after(&*self.index, after.as_ref(), ROWS_PER_BATCH)?;
            let Some(last) = zeros.last() else { break };
            after = Some(*last);
            for digest in &zeros {
                let place = index::blob(&*self.index, digest)?.and_then(|blob| blob.place);
                place.map(|place| over.remove(&place.pack));
            }
        }
        let mut state = self.locked();
        let mut working = Working::new(&*self.index);
        over.iter().for_each(|pack| working.remove_checkpoint(*pack));
        working.write()?;
        state.checkpoints.retain(|pack, _| !over.contains(pack));
        Ok(())
    }

    /// Forget those that were made so long ago, or, if they are from before the start, found so long ago. Those that
    /// a pull relies on count as made now. Answers with when the next is due.
    pub(crate) fn expire_checkpoints(&self, after: Duration) -> Result<Option<Duration>, Fault> {
        let mut state = self.locked();
        let State { pins, checkpoints, .. } = &mut *state;
        let relied_on = checkpoints.iter_mut().filter(|(pack, _)| pins.contains_key(pack));
        relied_on.for_each(|(_, made)| *made = Instant::now());
        let is_over =
            |pack: &PackId, made: &Instant| made.elapsed() >= after && !state.pins.contains_key(pack);
        let expired: BTreeSet<PackId> = state
            .checkpoints
            .iter()
            .filter(|(pack, made)| is_over(pack, made))
            .map(|(pack, _)| *pack)
            .collect();
        let mut working = Working::new(&*self.index);
        expired.iter().for_each(|pack| working.remove_checkpoint(*pack));
        working.write()?;
        state.checkpoints.retain(|pack, _| !expired.contains(pack));
        // So that somebody looks for what nobody needs.
        state.held += u64::from(!expired.is_empty());
        Ok(state.checkpoints.values().map(|made| after.saturating_sub(made.elapsed())).min())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use peerglass_catalog::MemoryKeyspace;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_outlives_a_restart_and_ends_in_time() {
        const HOUR: Duration = Duration::from_hours(1);
        let index = Arc::new(MemoryKeyspace::new());
        let open = || Ledger::new(index.clone(), 0, std::iter::empty()).unwrap();
        let ledger = open();
        ledger.note_checkpoint(PackId(1)).unwrap();
        ledger.note_checkpoint(PackId(2)).unwrap();
        tokio::time::advance(HOUR / 2).await;
        ledger.end_checkpoints(&[PackId(2), PackId(3)].into()).unwrap();
        assert_eq!(ledger.expire_checkpoints(HOUR).unwrap(), Some(HOUR / 2));
        // How long the node was down is not known.
        let ledger = open();
        tokio::time::advance(HOUR / 2).await;
        assert_eq!(ledger.expire_checkpoints(HOUR).unwrap(), Some(HOUR / 2));
        tokio::time::advance(HOUR / 2).await;
        assert_eq!(ledger.expire_checkpoints(HOUR).unwrap(), None);
        assert_eq!(open().expire_checkpoints(HOUR).unwrap(), None);
    }
}
