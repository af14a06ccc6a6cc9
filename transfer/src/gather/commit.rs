//! From written to durable to held, in that order.

use std::sync::Arc;

use peerglass_catalog::ManifestRoot;

use super::{Gathered, KeepError};
use crate::error::DownloadError;
use crate::ledger::RootGuard;
use crate::store::{BlobReader, all_sound, whole_and_sound};
use crate::transfer::Inner;

/// Make what was gathered durable and hold its manifest, which is guarded from now on.
///
/// If the manifest is held already and all of it is sound, nothing is kept of what was written.
pub(crate) async fn commit(
    transfer: &Arc<Inner>,
    gathered: Gathered,
) -> Result<(ManifestRoot, RootGuard), KeepError> {
    let Gathered { writing, writer, mut pins, progress, name, root } = gathered;
    let ledger = Arc::clone(&transfer.store.ledger);
    // Guarded before it is asked for: what is held now is not let go from under this.
    let guard = RootGuard::new(Arc::clone(&ledger), name);
    let known = Arc::clone(&ledger);
    let look = move || {
        let mut written = writer.iter().flat_map(|(_, writer)| &writer.rows).map(|row| row.digest);
        let nothing_new = known.holds(&name)? && all_sound(&known, &mut written)?;
        Ok::<_, KeepError>((writer, nothing_new))
    };
    let (writer, nothing_new) = transfer.workers.run(look).await.map_err(KeepError::Disk)??;
    let sealed = match writer {
        Some((begun, writer)) if !nothing_new => {
            let sealed = writer.seal().await?;
            transfer.directory.settle(transfer, sealed.pack).await?;
            pins.pin(sealed.pack);
            Some((begun, sealed))
        }
        Some(_) | None => None,
    };
    let store = transfer.store.clone();
    // All in one closure: if the caller is dropped while it runs, it still runs to its end, and the
    // claims are released only then.
    let enter = move || {
        let (_packs, _writing) = (progress, writing);
        if let Some((begun, sealed)) = &sealed {
            begun.enter(sealed, None)?;
        }
        store.ledger.begin_hold(&name)?;
        let mut reader = BlobReader::new(store.clone());
        store.ledger.hold::<KeepError>(&name, &root, |page| Ok(reader.page(page)?))?;
        if let Some((_, sealed)) = &sealed {
            store.ledger.complete(sealed.pack)?;
        }
        // What another pack had when this one was entered may have been swept since, with that pack's own manifest.
        if !whole_and_sound(&store, &name)? {
            return Err(DownloadError::Missing(name).into());
        }
        store.ledger.end_checkpoints(pins.packs())?;
        Ok::<_, KeepError>(guard)
    };
    let guard = transfer.workers.run(enter).await.map_err(KeepError::Disk)??;
    // Not for the pack, which could be indexed again, but for what was found held already: that it
    // is needed again must not be forgotten.
    ledger.index.sync().await?;
    Ok((name, guard))
}
