//! Holding a manifest because a peer asks for it.

use std::sync::Arc;

use peerglass_catalog::{ManifestRoot, NodeId};

use super::pulls::{Purpose, follow, follow_for};
use super::wire::HoldRefusal;
use crate::connection::Connection;
use crate::error::DownloadError;
use crate::ledger::RootGuard;
use crate::mutation::{self, Mutation};
use crate::store::whole_and_sound;
use crate::transfer::Inner;

/// How often a pull is tried. The first may be one that was about to fail when it was joined.
pub(super) const PULLS_TRIED: usize = 2;

/// Hold `root` durably, with what `asker` has if need be. Until the guard is dropped it stays held.
pub(super) async fn hold(
    transfer: Arc<Inner>,
    root: ManifestRoot,
    asker: (NodeId, Option<Connection>),
) -> Result<RootGuard, HoldRefusal> {
    let guard = RootGuard::new(Arc::clone(&transfer.store.ledger), root);
    for _ in 0..PULLS_TRIED {
        if is_held(&transfer, root).await? {
            return Ok(guard);
        }
        let pull = follow(&transfer, root, 0)?;
        pull.meet(asker.0, asker.1.clone());
        if mutation::is(Mutation::HeldBeforeDurable) {
            return Ok(guard);
        }
        match pull.ended().await {
            // Guarded since before it began, so it is held as it was committed.
            Ok(()) => return Ok(guard),
            Err(HoldRefusal::NoSource) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Err(HoldRefusal::NoSource)
}

/// Fetch what `root` names and keep it for a while, with what `asker` has if need be.
pub(super) async fn fetch_ahead(
    transfer: Arc<Inner>,
    root: ManifestRoot,
    asker: (NodeId, Option<Connection>),
) -> Result<(), HoldRefusal> {
    let pull = follow_for(&transfer, root, 0, Purpose::Ahead)?;
    pull.meet(asker.0, asker.1);
    pull.ended().await
}

/// Whether all of the manifest is here, and durable.
pub(super) async fn is_held(transfer: &Arc<Inner>, root: ManifestRoot) -> Result<bool, HoldRefusal> {
    let store = transfer.store.clone();
    let failed = |error: &dyn std::error::Error| {
        tracing::error!(manifest = %root.0, %error, "whether a manifest is held is not known");
        HoldRefusal::Failed
    };
    let looked = transfer.workers.run(move || whole_and_sound(&store, &root)).await;
    let held = looked.map_err(|error| failed(&error))?.map_err(|error: DownloadError| failed(&error))?;
    if held {
        // Whoever brought it may not have come to its own sync yet.
        transfer.store.ledger.index.sync().await.map_err(|error| failed(&error))?;
    }
    Ok(held)
}
