//! Packs that hold something dead: unlinked, or rewritten without it.

use std::sync::Arc;

use peerglass_catalog::Digest;

use super::{Failure, work};
use crate::disk::PackId;
use crate::gather::Progress;
use crate::ledger::Closed;
use crate::pack::{PackError, PackWriter, Row, Trailer};
use crate::store::{BlobReader, Store};
use crate::transfer::Inner;

/// Bytes copied between two writes.
const COPY_BYTES: usize = 1 << 20;

/// Unlink dead packs and strays, rewrite partly dead ones. Answers with how many were unlinked.
pub(super) async fn packs(transfer: &Arc<Inner>) -> Result<u64, Failure> {
    let store = &transfer.store;
    let listed: Vec<PackId> = store.packs.list()?.into_iter().map(|(pack, _)| pack).collect();
    let mut removed = 0;
    for stray in store.ledger.strays(&listed)? {
        store.packs.remove(stray)?;
        removed += 1;
    }
    let mut dead = Vec::new();
    for (pack, record) in store.ledger.wasteful_packs()? {
        let Some(mut closed) = Closed::new(&store.ledger, pack) else { continue };
        if record.live_blobs > 0 {
            let Some(emptied) = rewrite(transfer, closed).await? else { continue };
            closed = emptied;
        }
        dead.push(closed);
    }
    if !dead.is_empty() {
        // What the index lost in a power cut must not refer to what is unlinked.
        store.ledger.index.sync().await?;
        for closed in &dead {
            store.packs.remove(closed.pack)?;
            store.ledger.forget_pack(closed.pack)?;
            removed += 1;
        }
    }
    if removed > 0 {
        transfer.directory.sync(transfer).await?;
    }
    Ok(removed)
}

/// Move what is live in the closed pack to a new one. `None` if some of it does not read back: then
/// the pack stays as it is, for what can still be read of it.
async fn rewrite(transfer: &Arc<Inner>, closed: Closed) -> Result<Option<Closed>, Failure> {
    let old = closed.pack;
    let store = transfer.store.clone();
    let progress = Arc::new(Progress::new(store.clone()));
    let writing = Arc::clone(&progress);
    let Some(writer) = work(transfer, move || copy_live(&store, &writing, old)).await? else {
        return Ok(None);
    };
    let sealed = writer.seal().await?;
    transfer.directory.settle(transfer, sealed.pack).await?;
    let store = transfer.store.clone();
    // The pack stays closed until this has run, even if reclaim is given up meanwhile.
    let enter = move || {
        progress.enter(&sealed, Some(old))?;
        store.ledger.complete(sealed.pack)?;
        Ok(Some(closed))
    };
    work(transfer, enter).await
}

fn copy_live(store: &Store, progress: &Progress, old: PackId) -> Result<Option<PackWriter>, Failure> {
    let file = store.packs.open(old)?;
    let damaged = |error| match error {
        PackError::Unsealed => Failure::DamagedPack { pack: old, reason: "its trailer is not valid" },
        PackError::DamagedTable => Failure::DamagedPack { pack: old, reason: "its table is not valid" },
        PackError::Io(error) => error.into(),
    };
    let rows = Trailer::read(&*file).and_then(|trailer| trailer.table(&*file)).map_err(damaged)?;
    let mut reader = BlobReader::new(store.clone());
    let mut writer = progress.begin()?;
    let mut buffer = Vec::with_capacity(COPY_BYTES);
    let mut pending: Vec<Row> = Vec::new();
    for row in rows {
        let place = store.ledger.blob(&row.digest)?.and_then(|blob| blob.place);
        if place.is_none_or(|place| place.pack != old || place.offset != row.offset) {
            continue;
        }
        let start = buffer.len();
        buffer.resize(start + row.stored_len as usize, 0);
        let bytes = &mut buffer[start..];
        if reader.read(crate::index::Place { pack: old, offset: row.offset }, bytes).is_err()
            || Digest::of(bytes) != row.digest
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
    Ok(Some(writer))
}
