//! Claims on what is stored, each a value that ends the claim when it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use peerglass_catalog::keyspace::Fault;
use peerglass_catalog::{Digest, ManifestRoot};

use super::{Ledger, PackRecord, State, Working};
use crate::disk::PackId;
use crate::index::{self, Place};

/// The packs one upload relies on.
pub(crate) struct Pins {
    ledger: Arc<Ledger>,
    packs: BTreeSet<PackId>,
}

impl Pins {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, packs: BTreeSet::new() }
    }

    /// Whether the blob is stored soundly, and then it stays so while `self` lives.
    pub(crate) fn rely_on(&mut self, digest: &Digest) -> Result<bool, Fault> {
        let mut place = self.place(digest)?;
        // A pack that was not pinned when the record was read may have lost the blob since, so the
        // record is read again under the pin. Once is enough: what is pinned stays.
        while let Some(found) = place {
            if self.packs.contains(&found.pack) {
                return Ok(true);
            }
            if !self.pin(found.pack) {
                return Ok(false);
            }
            place = self.place(digest)?;
        }
        Ok(false)
    }

    /// What is relied on.
    pub(crate) fn packs(&self) -> &BTreeSet<PackId> {
        &self.packs
    }

    /// Rely on everything in `pack`; false if it is being emptied.
    pub(crate) fn pin(&mut self, pack: PackId) -> bool {
        let mut state = self.ledger.locked();
        if state.closing.contains(&pack) {
            return false;
        }
        if self.packs.insert(pack) {
            *state.pins.entry(pack).or_default() += 1;
        }
        true
    }

    fn place(&self, digest: &Digest) -> Result<Option<Place>, Fault> {
        Ok(index::blob(&*self.ledger.index, digest)?.and_then(|blob| blob.sound_place()))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.ledger.locked();
        for pack in &self.packs {
            release(&mut state.pins, pack);
        }
    }
}

/// A manifest that somebody needs.
pub(crate) struct RootGuard {
    ledger: Arc<Ledger>,
    root: ManifestRoot,
}

impl RootGuard {
    /// Need `root` from now on, held or not.
    pub(crate) fn new(ledger: Arc<Ledger>, root: ManifestRoot) -> Self {
        let mut state = ledger.locked();
        *state.guards.entry(root).or_default() += 1;
        state.questioned.remove(&root);
        drop(state);
        Self { ledger, root }
    }
}

impl Drop for RootGuard {
    fn drop(&mut self) {
        release(&mut self.ledger.locked().guards, &self.root);
    }
}

fn release<K: Ord>(claims: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = claims.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            claims.remove(key);
        }
    }
}

/// One upload or download in flight.
pub(crate) struct Slot {
    ledger: Arc<Ledger>,
    upload: bool,
}

impl Slot {
    /// A place among at most `max` uploads, if one is free.
    pub(crate) fn upload(ledger: &Arc<Ledger>, max: usize) -> Option<Self> {
        let mut state = ledger.locked();
        if state.uploads >= max {
            return None;
        }
        state.uploads += 1;
        Some(Self { ledger: Arc::clone(ledger), upload: true })
    }

    pub(crate) fn download(ledger: &Arc<Ledger>) -> Self {
        ledger.locked().downloads += 1;
        Self { ledger: Arc::clone(ledger), upload: false }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.ledger.locked();
        if self.upload {
            state.uploads -= 1;
        } else {
            state.downloads -= 1;
        }
    }
}

impl Ledger {
    /// Uploads and downloads in flight.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        let state = self.locked();
        (state.uploads, state.downloads)
    }

    /// A number for a new pack, which is known to be being written from now on.
    ///
    /// The index is told before there is a file: should the process die, what of it is in the machine's
    /// cache may look whole and not be durable, and must not be taken for a pack.
    pub(crate) fn begin_pack(&self) -> Result<PackId, Fault> {
        let mut state = self.locked();
        let pack = PackId(state.next_pack);
        let mut working = Working::new(&*self.index);
        working.put_begun(pack);
        working.put_next_pack(pack.0 + 1);
        working.write()?;
        state.next_pack += 1;
        state.writing.insert(pack);
        Ok(pack)
    }

    /// Nobody writes or enters the pack any more.
    pub(crate) fn end_pack(&self, pack: PackId) {
        let mut state = self.locked();
        state.writing.remove(&pack);
        state.doubtful.remove(&pack);
    }

    /// A pack that was begun and never entered is gone.
    pub(crate) fn forget_begun(&self, pack: PackId) -> Result<(), Fault> {
        let _state = self.locked();
        let mut working = Working::new(&*self.index);
        working.remove_begun(pack);
        working.write()
    }

    /// The directory failed to sync: nobody knows any more whether packs begun before survive a power cut.
    pub(crate) fn doubt_written(&self) {
        let mut state = self.locked();
        let State { writing, doubtful, .. } = &mut *state;
        doubtful.extend(writing.iter().copied());
    }

    /// Whether a sync of the directory has failed since the pack was begun.
    pub(crate) fn is_doubtful(&self, pack: PackId) -> bool {
        self.locked().doubtful.contains(&pack)
    }

    /// Packs that hold something nobody needs, and of which nobody relies on anything.
    pub(crate) fn wasteful_packs(&self) -> Result<Vec<(PackId, PackRecord)>, Fault> {
        let mut packs = index::packs(&*self.index)?;
        let state = self.locked();
        packs.retain(|(pack, record)| {
            record.complete && record.live_blobs < record.blobs && !state.pins.contains_key(pack)
        });
        Ok(packs)
    }

    /// Those of `packs` that are neither in the index nor being written.
    pub(crate) fn strays(&self, packs: &[PackId]) -> Result<Vec<PackId>, Fault> {
        // The lock is held over the reading: a pack leaves `writing` with the batch that enters it.
        let state = self.locked();
        let known: BTreeSet<_> = index::packs(&*self.index)?.into_iter().map(|(pack, _)| pack).collect();
        Ok(packs
            .iter()
            .filter(|pack| !known.contains(pack) && !state.writing.contains(pack))
            .copied()
            .collect())
    }

    /// Packs whose entering was begun and given up.
    pub(crate) fn unfinished_packs(&self) -> Result<Vec<(PackId, PackRecord)>, Fault> {
        let mut packs = index::packs(&*self.index)?;
        let state = self.locked();
        packs.retain(|(pack, record)| !record.complete && !state.writing.contains(pack));
        Ok(packs)
    }
}

/// A pack that is being emptied: nobody may begin to rely on it while this lives.
pub(crate) struct Closed {
    ledger: Arc<Ledger>,
    pub(crate) pack: PackId,
}

impl Closed {
    /// Close `pack`, unless somebody relies on it or it is closed already.
    pub(crate) fn new(ledger: &Arc<Ledger>, pack: PackId) -> Option<Self> {
        let mut state = ledger.locked();
        let closed = !state.pins.contains_key(&pack) && state.closing.insert(pack);
        closed.then(|| Self { ledger: Arc::clone(ledger), pack })
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.ledger.locked().closing.remove(&self.pack);
    }
}
