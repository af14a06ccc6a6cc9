//! Who holds what: every change of the index, and what may not be reclaimed just now.
//!
//! # What it promises
//!
//! * Each method changes the index in atomic batches of bounded size, each under one lock, so that
//!   uploads, downloads and reclaim never see or make half a step.
//! * A pinned pack keeps every blob the index says it has, named or not: an upload may rely on what
//!   it found there. A guarded manifest is not let go.
//! * Every operation of many batches leaves a mark of how far it is, and resumes there.
//! * A pack's number is noted as used before the pack exists, so that whatever a power cut takes back,
//!   no record of one pack is ever found beside the file of another.
//!
//! # What it leaves to others
//!
//! Durability. The index is written, not synced: what a power cut takes from it can be read again
//! from the packs. Only before a pack is unlinked must the index be synced (`reclaim`).

mod checkpoints;
mod claims;
mod counting;
mod uses;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peerglass_catalog::keyspace::{Fault, Keyspace};
use peerglass_catalog::{Digest, ManifestRoot};
use tokio::time::Instant;

use crate::disk::PackId;
use crate::index::{self, Blob, Held, PackRecord, Place, Working};
use crate::pack::{Row, Sealed};

pub(crate) use claims::{Closed, Pins, RootGuard, Slot};
pub(crate) use counting::chunks;
use uses::Uses;

/// Rows of a pack's table, or unnamed blobs, that one batch takes on: a few milliseconds of lock.
const ROWS_PER_BATCH: usize = 2048;

/// See the module.
pub(crate) struct Ledger {
    pub(crate) index: Arc<dyn Keyspace>,
    state: Mutex<State>,
}

/// What is true only while the process runs.
struct State {
    /// How many uploads rely on each pack.
    pins: BTreeMap<PackId, usize>,
    /// Packs that are being emptied: nobody may begin to rely on them.
    closing: BTreeSet<PackId>,
    /// Packs that are being written or entered by an upload or a rewrite in progress.
    writing: BTreeSet<PackId>,
    /// Those of `writing` that may be gone after a power cut whatever a later sync of the directory says.
    doubtful: BTreeSet<PackId>,
    /// How many uploads and downloads need each manifest.
    guards: BTreeMap<ManifestRoot, usize>,
    /// Manifests that may be let go, each by the number of its question. A guard takes one out.
    questioned: BTreeMap<ManifestRoot, u64>,
    questions: u64,
    losses: u64,
    held: u64,
    next_pack: u64,
    totals: Totals,
    uploads: usize,
    downloads: usize,
    uses: Uses,
    /// Packs of which nothing is swept, and since when.
    checkpoints: BTreeMap<PackId, Instant>,
}

impl State {
    fn new(next_pack: u64, next_use: u64) -> Self {
        Self {
            pins: BTreeMap::new(),
            closing: BTreeSet::new(),
            writing: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            guards: BTreeMap::new(),
            questioned: BTreeMap::new(),
            questions: 0,
            losses: 0,
            held: 0,
            next_pack,
            totals: Totals::default(),
            uploads: 0,
            downloads: 0,
            uses: Uses::new(next_use),
            checkpoints: BTreeMap::new(),
        }
    }
}

/// Sums over the pack records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) packs: u64,
    pub(crate) file_bytes: u64,
    pub(crate) live_blobs: u64,
    pub(crate) live_bytes: u64,
}

impl Totals {
    fn add(&mut self, record: &PackRecord) {
        self.packs += 1;
        self.file_bytes += record.file_bytes;
        self.live_blobs += record.live_blobs;
        self.live_bytes += record.live_bytes;
    }

    fn subtract(&mut self, record: &PackRecord) {
        self.packs -= 1;
        self.file_bytes -= record.file_bytes;
        self.live_blobs -= record.live_blobs;
        self.live_bytes -= record.live_bytes;
    }
}

impl Ledger {
    /// The ledger over `index`, which has `records` of packs. Packs begun from now on are numbered from
    /// `next_pack`, or higher if there were higher ones.
    pub(crate) fn new<'a>(
        index: Arc<dyn Keyspace>,
        next_pack: u64,
        records: impl Iterator<Item = &'a PackRecord>,
    ) -> Result<Self, Fault> {
        let noted = index::next_pack(&*index)?;
        let next_pack = next_pack.max(noted);
        if next_pack != noted {
            // Before any record leaves the index: an index that was lost, or is of a release that did not
            // note it, knows the numbers by the packs alone.
            let mut working = Working::new(&*index);
            working.put_next_pack(next_pack);
            working.write()?;
        }
        let mut state = State::new(next_pack, index::next_use(&*index)?);
        records.for_each(|record| state.totals.add(record));
        let now = Instant::now();
        state.checkpoints = index::checkpoints(&*index)?.into_iter().map(|pack| (pack, now)).collect();
        Ok(Self { index, state: Mutex::new(state) })
    }

    // A panic under the lock is a bug that stops its task; the maps are changed in single steps.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.locked().totals
    }

    /// Where a blob is, sound or not.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Fault> {
        index::blob(&*self.index, digest)
    }

    /// Whether this node holds the manifest, or is about to because an upload is counting it.
    pub(crate) fn holds(&self, root: &ManifestRoot) -> Result<bool, Fault> {
        Ok(Working::new(&*self.index).held(root)?.is_some())
    }

    /// Whether all of the manifest is counted as held.
    pub(crate) fn holds_whole(&self, root: &ManifestRoot) -> Result<bool, Fault> {
        Ok(Working::new(&*self.index).held(root)? == Some(Held::Whole))
    }

    /// Begin the record of a sealed pack, unless it was begun before.
    pub(crate) fn begin_record(&self, sealed: &Sealed) -> Result<(), Fault> {
        let mut state = self.locked();
        let mut working = Working::new(&*self.index);
        working.remove_begun(sealed.pack);
        let mut packs = PackChanges::default();
        let record = PackRecord {
            rows_indexed: 0,
            complete: false,
            file_bytes: sealed.bytes,
            blobs: sealed.rows.len() as u64,
            live_blobs: 0,
            live_bytes: 0,
        };
        packs.enter(&working, sealed.pack, record)?;
        packs.write(&mut state, working)
    }

    /// Enter the rows of a sealed pack whose record was begun, from where an interrupted attempt stopped.
    ///
    /// A blob that is elsewhere already stays there, unless its bytes there are damaged or lost or
    /// `moved_from` is the pack it is in. The pack is not complete before [`Ledger::complete`].
    pub(crate) fn adopt(&self, sealed: &Sealed, moved_from: Option<PackId>) -> Result<(), Fault> {
        loop {
            let mut state = self.locked();
            let mut working = Working::new(&*self.index);
            let mut packs = PackChanges::default();
            let done = packs.of(&working, sealed.pack)?.map_or(0, |record| record.rows_indexed);
            let rest = sealed.rows.get(done as usize..).unwrap_or_default();
            let rows = &rest[..rest.len().min(ROWS_PER_BATCH)];
            for row in rows {
                adopt_row(&mut working, &mut packs, sealed.pack, row, moved_from)?;
            }
            packs.change(&working, sealed.pack, |record| record.rows_indexed += rows.len() as u64)?;
            packs.write(&mut state, working)?;
            if rest.len() <= ROWS_PER_BATCH {
                return Ok(());
            }
        }
    }

    /// Note that everything a pack was written for is in the index.
    pub(crate) fn complete(&self, pack: PackId) -> Result<(), Fault> {
        let mut state = self.locked();
        let working = Working::new(&*self.index);
        let mut packs = PackChanges::default();
        packs.change(&working, pack, |record| record.complete = true)?;
        packs.write(&mut state, working)
    }

    /// Remember that a blob's bytes are not what they should be.
    pub(crate) fn quarantine(&self, digest: &Digest, place: Place) -> Result<(), Fault> {
        let mut state = self.locked();
        state.losses += 1;
        let mut working = Working::new(&*self.index);
        if let Some(blob) = working.blob(digest)?.filter(|blob| blob.place == Some(place) && !blob.damaged) {
            working.put_blob(digest, Some(&blob), &Blob { damaged: true, ..blob });
        }
        working.write()
    }

    /// How often a manifest came to be held, or a checkpoint was made or ended, since the start.
    pub(crate) fn held(&self) -> u64 {
        self.locked().held
    }

    /// How often it was learnt that something held is lost or damaged, since the start.
    pub(crate) fn losses(&self) -> u64 {
        self.locked().losses
    }

    /// Remove the blobs nobody names or relies on. Answers with how many.
    ///
    /// Those of a pack that is not complete stay: whoever finishes it will count them. So do those of a checkpoint.
    pub(crate) fn sweep(&self) -> Result<u64, Fault> {
        let mut swept = 0;
        let mut after = None;
        loop {
            let mut state = self.locked();
            let zeros = index::zeros_after(&*self.index, after.as_ref(), ROWS_PER_BATCH)?;
            let Some(last) = zeros.last() else { return Ok(swept) };
            after = Some(*last);
            let mut working = Working::new(&*self.index);
            let mut packs = PackChanges::default();
            for digest in &zeros {
                let Some(blob) = working.blob(digest)? else {
                    working.remove_blob(digest);
                    continue;
                };
                if let Some(place) = blob.place
                    && (state.pins.contains_key(&place.pack)
                        || state.checkpoints.contains_key(&place.pack)
                        || packs.is_unfinished(&working, place.pack)?)
                {
                    continue;
                }
                packs.leave(&working, &blob)?;
                working.remove_blob(digest);
                swept += 1;
            }
            packs.write(&mut state, working)?;
        }
    }

    /// Forget that `lost` packs ever were: what was in them is missing from now on.
    pub(crate) fn forget_lost(&self, lost: &BTreeSet<PackId>) -> Result<(), Fault> {
        self.locked().losses += 1;
        let mut after = None;
        loop {
            let blobs = index::blobs_after(&*self.index, after.as_ref(), ROWS_PER_BATCH)?;
            let Some((last, _)) = blobs.last() else { break };
            after = Some(*last);
            let mut working = Working::new(&*self.index);
            for (digest, blob) in &blobs {
                if blob.place.is_some_and(|place| lost.contains(&place.pack)) {
                    working.put_blob(digest, Some(blob), &Blob { place: None, ..*blob });
                }
            }
            working.write()?;
        }
        lost.iter().try_for_each(|pack| self.forget_pack(*pack))
    }

    /// Forget a pack that holds nothing live.
    pub(crate) fn forget_pack(&self, pack: PackId) -> Result<(), Fault> {
        let mut state = self.locked();
        let mut working = Working::new(&*self.index);
        if let Some(record) = working.pack(pack)? {
            working.remove_pack(pack);
            working.remove_checkpoint(pack);
            working.write()?;
            state.checkpoints.remove(&pack);
            state.totals.subtract(&record);
        }
        Ok(())
    }
}

/// Put one row of `pack` into the index, if the index has nothing better.
fn adopt_row(
    working: &mut Working<'_>,
    packs: &mut PackChanges,
    pack: PackId,
    row: &Row,
    moved_from: Option<PackId>,
) -> Result<(), Fault> {
    let place = Some(Place { pack, offset: row.offset });
    let was = working.blob(&row.digest)?;
    let refs = was.map_or(0, |was| was.refs);
    if let Some(was) = &was {
        let moves = was.place.is_some_and(|at| Some(at.pack) == moved_from);
        if was.sound_place().is_some() && !moves {
            return Ok(());
        }
        packs.leave(working, was)?;
    }
    let blob = Blob { place, form: row.form, kind: row.kind, refs, damaged: false };
    working.put_blob(&row.digest, was.as_ref(), &blob);
    packs.change(working, pack, |record| {
        record.live_blobs += 1;
        record.live_bytes += u64::from(row.form.stored_len());
    })
}

/// Changes to pack records that one batch makes.
#[derive(Default)]
struct PackChanges {
    /// Before and after.
    changed: BTreeMap<PackId, (Option<PackRecord>, PackRecord)>,
}

impl PackChanges {
    fn of(&self, working: &Working<'_>, pack: PackId) -> Result<Option<PackRecord>, Fault> {
        match self.changed.get(&pack) {
            Some((_, now)) => Ok(Some(*now)),
            None => working.pack(pack),
        }
    }

    fn is_unfinished(&self, working: &Working<'_>, pack: PackId) -> Result<bool, Fault> {
        Ok(self.of(working, pack)?.is_some_and(|record| !record.complete))
    }

    /// Begin a record unless there is one.
    fn enter(&mut self, working: &Working<'_>, pack: PackId, record: PackRecord) -> Result<(), Fault> {
        if self.of(working, pack)?.is_none() {
            self.changed.insert(pack, (None, record));
        }
        Ok(())
    }

    fn change(
        &mut self,
        working: &Working<'_>,
        pack: PackId,
        change: impl FnOnce(&mut PackRecord),
    ) -> Result<(), Fault> {
        if let Entry::Vacant(vacant) = self.changed.entry(pack)
            && let Some(record) = working.pack(pack)?
        {
            vacant.insert((Some(record), record));
        }
        if let Some((_, now)) = self.changed.get_mut(&pack) {
            change(now);
        }
        Ok(())
    }

    /// A blob is no longer where it was.
    fn leave(&mut self, working: &Working<'_>, blob: &Blob) -> Result<(), Fault> {
        let Some(place) = blob.place else { return Ok(()) };
        self.change(working, place.pack, |record| {
            record.live_blobs = record.live_blobs.saturating_sub(1);
            record.live_bytes = record.live_bytes.saturating_sub(u64::from(blob.form.stored_len()));
        })
    }

    fn write(self, state: &mut State, mut working: Working<'_>) -> Result<(), Fault> {
        for (pack, (_, now)) in &self.changed {
            working.put_pack(*pack, now);
        }
        working.write()?;
        for (was, now) in self.changed.values() {
            if let Some(was) = was {
                state.totals.subtract(was);
            }
            state.totals.add(now);
        }
        Ok(())
    }
}
