//! Packs that hold something dead: unlinked, or rewritten without it.
//!
//! Blobs are copied in the form they are stored in; what is compressed is opened to be verified, and not compressed again.
//!
//! Unlinking makes room and rewriting takes it until it is done, so what is wholly dead goes first, then
//! what frees most for what is copied, and each pack is unlinked before the next is copied.

use std::sync::Arc;

use peerglass_catalog::Digest;

use super::{Reclaimed, work};
use crate::disk::PackId;
use crate::error::DiskFailure;
use crate::gather::Begun;
use crate::index::{PackRecord, Place};
use crate::ledger::Closed;
use crate::pack::{PackError, PackWriter, Row, Trailer};
use crate::store::{BlobReader, Store};
use crate::transfer::Inner;

/// Bytes copied between two writes.
const COPY_BYTES: usize = 1 << 20;

/// Unlink dead packs and strays, rewrite partly dead ones.
pub(super) async fn packs(transfer: &Arc<Inner>, reclaimed: &mut Reclaimed) -> Result<(), DiskFailure> {
    let store = transfer.store.clone();
    let (strays, dead, mut mixed) = work(transfer, move || sort(&store)).await?;
    reclaimed.packs += strays + dead.len() as u64;
    unlink(transfer, dead).await?;
    mixed.sort_by_key(|(_, record)| live_share(record));
    let mut lacking = Vec::new();
    for (pack, record) in mixed {
        let Some(closed) = Closed::new(&transfer.store.ledger, pack) else { continue };
        if transfer.store.packs.room()? < record.live_bytes {
            lacking.push(pack);
            continue;
        }
        match rewrite(transfer, closed).await {
            Ok(Some(emptied)) => {
                unlink(transfer, vec![emptied]).await?;
                reclaimed.packs += 1;
            }
            Ok(None) => {}
            Err(failure) if failure.is_full() => lacking.push(pack),
            Err(failure) => return Err(failure),
        }
    }
    if !lacking.is_empty() {
        tracing::warn!(packs = ?lacking, "no room to rewrite packs without what is dead in them");
        reclaimed.no_room = lacking.len() as u64;
    }
    if reclaimed.packs > 0 {
        transfer.directory.sync(transfer).await?;
    }
    Ok(())
}

/// Packs that hold something dead beside what is live.
type Mixed = Vec<(PackId, PackRecord)>;

/// Remove the strays. Answers with how many there were, the dead packs, and those to be rewritten.
fn sort(store: &Store) -> Result<(u64, Vec<Closed>, Mixed), DiskFailure> {
    let listed: Vec<PackId> = store.packs.list()?.into_iter().map(|(pack, _)| pack).collect();
    let strays = store.ledger.strays(&listed)?;
    for stray in &strays {
        store.packs.remove(*stray)?;
    }
    let (dead, mixed): (Vec<_>, Vec<_>) =
        store.ledger.wasteful_packs()?.into_iter().partition(|(_, record)| record.live_blobs == 0);
    let dead = dead.into_iter().filter_map(|(pack, _)| Closed::new(&store.ledger, pack)).collect();
    Ok((strays.len() as u64, dead, mixed))
}

/// How much of a pack must be copied to be rid of the rest, in millionths.
fn live_share(record: &PackRecord) -> u128 {
    u128::from(record.live_bytes) * 1_000_000 / u128::from(record.file_bytes.max(1))
}

/// Unlink packs of which the index refers to nothing any more.
async fn unlink(transfer: &Arc<Inner>, dead: Vec<Closed>) -> Result<(), DiskFailure> {
    if dead.is_empty() {
        return Ok(());
    }
    let store = transfer.store.clone();
    // What the index lost in a power cut must not refer to what is unlinked.
    store.ledger.index.sync().await?;
    let remove = move || {
        dead.iter().try_for_each(|closed| store.packs.remove(closed.pack))?;
        // Only now: without room for this before, there may be some.
        Ok(dead.iter().try_for_each(|closed| store.ledger.forget_pack(closed.pack))?)
    };
    work(transfer, remove).await
}

/// Move what is live in the closed pack to a new one. `None` if some of it does not read back: then
/// the pack stays as it is, for what can still be read of it.
async fn rewrite(transfer: &Arc<Inner>, closed: Closed) -> Result<Option<Closed>, DiskFailure> {
    let old = closed.pack;
    let store = transfer.store.clone();
    let Some((begun, writer)) = work(transfer, move || copy_live(&store, old)).await? else {
        return Ok(None);
    };
    if writer.rows.is_empty() {
        // Uploads have brought all of it anew meanwhile.
        return Ok(Some(closed));
    }
    let sealed = writer.seal().await?;
    transfer.directory.settle(transfer, sealed.pack).await?;
    let store = transfer.store.clone();
    // The pack stays closed until this has run, even if reclaim is given up meanwhile.
    let enter = move || {
        begun.enter(&sealed, Some(old))?;
        store.ledger.complete(sealed.pack)?;
        Ok(Some(closed))
    };
    work(transfer, enter).await
}

fn copy_live(store: &Store, old: PackId) -> Result<Option<(Arc<Begun>, PackWriter)>, DiskFailure> {
    let rows = match table(store, old) {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!(pack = %old, %error, "a pack cannot be rewritten: it is damaged");
            return Ok(None);
        }
    };
    let mut reader = BlobReader::new(store.clone());
    let (begun, mut writer) = Begun::smaller(store)?;
    let mut buffer = Vec::with_capacity(COPY_BYTES);
    let mut pending: Vec<Row> = Vec::new();
    let mut opened = Vec::new();
    for row in rows {
        let place = store.ledger.blob(&row.digest)?.and_then(|blob| blob.place);
        if place.is_none_or(|place| place.pack != old || place.offset != row.offset) {
            continue;
        }
        let start = buffer.len();
        buffer.resize(start + row.form.stored_len() as usize, 0);
        let bytes = &mut buffer[start..];
        let is_it = |plain: &[u8]| Digest::of(plain) == row.digest;
        if reader.read(Place { pack: old, offset: row.offset }, bytes).is_err()
            || !row.form.open(bytes, &mut opened).is_some_and(is_it)
        {
            tracing::error!(pack = %old, digest = %row.digest, "a pack cannot be rewritten: a blob is damaged");
            return Ok(None);
        }
        pending.push(Row { offset: writer.end + start as u64, ..row });
        if buffer.len() >= COPY_BYTES {
            writer.append(&buffer, &pending)?;
            buffer.clear();
            pending.clear();
        }
    }
    writer.append(&buffer, &pending)?;
    Ok(Some((begun, writer)))
}

fn table(store: &Store, pack: PackId) -> Result<Vec<Row>, PackError> {
    let file = store.packs.open(pack)?;
    Trailer::read(&*file)?.table(&*file)
}
