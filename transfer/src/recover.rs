//! Opening what the last process left behind.
//!
//! A pack the index calls complete must be whole, or opening fails and names it: it must be there at its full
//! length, which one listing tells of all, and the newest are looked into. What is wrong within an older one
//! is found when that is used. A pack the index says
//! was begun and has no record of is what a crash left of an upload nobody was told of: it is removed,
//! even if it is sealed, since a process that is killed leaves packs that are whole only in the machine's
//! cache. A pack the index does not know at all is indexed if it is sealed and removed if not: the index
//! was lost, or its end in a power cut, and what a power cut leaves is on the disk. A pack the index knows and that
//! is gone took its blobs with it: they are missing from then on, and an upload that brings them again
//! makes them whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use peerglass_catalog::ManifestRoot;

use crate::disk::{PackDisk, PackId, TransferDisk};
use crate::error::{DiskFailure, DownloadError, OpenError};
use crate::index::{self, PackRecord};
use crate::ledger::Ledger;
use crate::pack::{BlobKind, PackError, Sealed, Trailer};
use crate::store::{BlobReader, Store};
use crate::workers::Workers;

/// Known packs that opening looks into, the newest ones: they have been through the fewest starts. Each costs
/// a read somewhere on the disk, and a node of small images has a hundred thousand of them.
const PACKS_CHECKED: usize = 1024;
/// Tables of known packs that opening checks, in bytes: those of some 64 GiB of image, read in well
/// under a second.
const TABLE_BYTES_CHECKED: u64 = 64 << 20;

/// Open the packs and the index.
pub(crate) async fn open(disk: TransferDisk, workers: Workers) -> Result<Store, OpenError> {
    let packs = Arc::clone(&disk.packs);
    let (store, removed) = workers.run(move || recover(disk)).await.map_err(OpenError::Disk)??;
    if removed {
        packs.sync_directory().await?;
    }
    Ok(store)
}

fn recover(disk: TransferDisk) -> Result<(Store, bool), OpenError> {
    let files = disk.packs.list()?;
    let known: BTreeMap<PackId, PackRecord> = index::packs(&*disk.index)?.into_iter().collect();
    let begun: BTreeSet<PackId> = index::begun(&*disk.index)?.into_iter().collect();
    let numbers =
        files.iter().map(|(pack, _)| *pack).chain(known.keys().copied()).chain(begun.iter().copied());
    let next_pack = numbers.max().map_or(0, |pack| pack.0.saturating_add(1));
    let ledger = Arc::new(Ledger::new(Arc::clone(&disk.index), next_pack, known.values())?);
    let store = Store { packs: disk.packs, ledger };

    let present: BTreeSet<PackId> = files.iter().map(|(pack, _)| *pack).collect();
    let lost: BTreeSet<PackId> = known.keys().filter(|pack| !present.contains(pack)).copied().collect();
    if !lost.is_empty() {
        // A pack without live blobs was about to be forgotten when the process ended.
        let missed: Vec<_> = lost.iter().filter(|pack| known[pack].live_blobs > 0).collect();
        if !missed.is_empty() {
            tracing::error!(packs = ?missed, "packs are gone, and with them the bytes only they held");
        }
        store.ledger.forget_lost(&lost)?;
    }
    let complete = |(pack, len): &(PackId, u64)| {
        let record = known.get(pack).filter(|record| record.complete)?;
        Some((*pack, *len, record))
    };
    check(&*store.packs, files.iter().filter_map(complete))?;
    let mut removed = false;
    let mut unfinished = Vec::new();
    for (pack, len) in files {
        match known.get(&pack) {
            Some(record) if record.complete => {}
            None if begun.contains(&pack) => {
                store.packs.remove(pack)?;
                removed = true;
            }
            record => match read(&*store.packs, pack, len) {
                Ok(sealed) => {
                    store.ledger.begin_record(&sealed)?;
                    store.ledger.adopt(&sealed, None)?;
                    unfinished.push(sealed);
                }
                Err(PackError::Unsealed) if record.is_none() => {
                    store.packs.remove(pack)?;
                    removed = true;
                }
                Err(error) => return Err(refusal(pack, error)),
            },
        }
    }
    for pack in begun {
        store.ledger.forget_begun(pack)?;
    }
    // Only now: a manifest may name chunks in any pack.
    unfinished.iter().try_for_each(|sealed| hold_roots(&store, sealed))?;
    hold_begun(&store).map_err(OpenError::Disk)?;
    Ok((store, removed))
}

/// Finish what uploads and rewrites that failed half-way have begun in the index. Opening does this
/// for a process that died; reclaim does it for one that lives, and leaves unfinished what does not read
/// back: nobody was told of it, and it must not keep everything else on the disk.
pub(crate) fn resume(store: &Store) -> Result<(), DiskFailure> {
    let mut unfinished = Vec::new();
    for (pack, record) in store.ledger.unfinished_packs()? {
        match read(&*store.packs, pack, record.file_bytes) {
            Ok(sealed) => {
                store.ledger.begin_record(&sealed)?;
                store.ledger.adopt(&sealed, None)?;
                unfinished.push(sealed);
            }
            Err(error) => tracing::error!(%pack, %error, "a pack that was not indexed to its end is damaged"),
        }
    }
    for sealed in &unfinished {
        if let Err(error) = hold_roots(store, sealed) {
            let (pack, error) = (sealed.pack, error.of_some_bytes()?);
            tracing::error!(%pack, %error, "a pack that was not indexed to its end is damaged");
        }
    }
    hold_begun(store)
}

/// Hold the manifests of a pack that was not complete.
fn hold_roots(store: &Store, sealed: &Sealed) -> Result<(), DownloadError> {
    let mut reader = BlobReader::new(store.clone());
    for row in sealed.rows.iter().filter(|row| row.kind == BlobKind::Root) {
        hold(store, &mut reader, ManifestRoot(row.digest))?;
    }
    Ok(store.ledger.complete(sealed.pack)?)
}

/// Hold the manifests whose counting was interrupted, unless they do not read back: those stay as far as
/// they are counted until the same bytes come again.
fn hold_begun(store: &Store) -> Result<(), DiskFailure> {
    let mut reader = BlobReader::new(store.clone());
    for root in index::interrupted(&*store.ledger.index)? {
        if let Err(error) = hold(store, &mut reader, root) {
            let error = error.of_some_bytes()?;
            tracing::error!(manifest = %root.0, %error, "a manifest that was begun is damaged");
        }
    }
    Ok(())
}

fn hold(store: &Store, reader: &mut BlobReader, root: ManifestRoot) -> Result<(), DownloadError> {
    store.ledger.begin_hold(&root)?;
    let manifest = reader.root(&root)?;
    store.ledger.hold::<DownloadError>(&root, &manifest, |page| reader.page(page))
}

/// Check packs that were complete, which come in order.
fn check<'a>(
    packs: &dyn PackDisk,
    complete: impl DoubleEndedIterator<Item = (PackId, u64, &'a PackRecord)> + Clone,
) -> Result<(), OpenError> {
    for (pack, len, record) in complete.clone() {
        if len != record.file_bytes {
            return Err(OpenError::DamagedPack { pack, reason: "its length is not what was written" });
        }
    }
    let mut table_bytes_left = TABLE_BYTES_CHECKED;
    for (pack, _, _) in complete.rev().take(PACKS_CHECKED) {
        let mut look = || {
            let file = packs.open(pack)?;
            let trailer = Trailer::read(&*file)?;
            if let Some(left) = trailer.table_bytes().and_then(|bytes| table_bytes_left.checked_sub(bytes)) {
                trailer.table(&*file)?;
                table_bytes_left = left;
            }
            Ok::<_, PackError>(())
        };
        look().map_err(|error| refusal(pack, error))?;
    }
    Ok(())
}

/// Read the table of a sealed pack.
fn read(packs: &dyn PackDisk, pack: PackId, len: u64) -> Result<Sealed, PackError> {
    let file = packs.open(pack)?;
    let rows = Trailer::read(&*file)?.table(&*file)?;
    Ok(Sealed { pack, rows, bytes: len })
}

/// What it means at a start that a pack cannot be used.
fn refusal(pack: PackId, error: PackError) -> OpenError {
    match error {
        PackError::Unsealed => OpenError::DamagedPack { pack, reason: "its trailer is not valid" },
        PackError::DamagedTable => OpenError::DamagedPack { pack, reason: "its table is not valid" },
        PackError::UnknownVersion(_) => OpenError::DamagedPack {
            pack,
            reason: "its version is not known; perhaps a newer release wrote it",
        },
        PackError::Io(error) => error.into(),
    }
}
