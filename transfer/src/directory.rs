//! Syncs of the pack directory, of which one that fails is final for all it covered.
//!
//! One sync makes every pack durable that was created before it, and so one that fails takes the ground
//! from under all of them: the disk may have dropped their entries, and that a later sync succeeds does
//! not bring them back. A pack is entered into the index only through [`Directory::settle`].
//!
//! # What it promises
//!
//! * A pack is settled only by a sync that succeeded, with none that failed since the pack was begun.
//! * A sync runs to its end and is heeded even if whoever asked for it is gone.

use std::io;
use std::sync::Arc;

use tokio::sync::{Mutex, oneshot};

use crate::disk::PackId;
use crate::store::Store;
use crate::transfer::Inner;

/// See the module.
pub(crate) struct Directory {
    store: Store,
    /// One sync at a time: that one failed must be known before another is believed.
    syncing: Mutex<()>,
}

impl Directory {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, syncing: Mutex::new(()) }
    }

    /// Make every create and remove before this call survive a power cut.
    pub(crate) async fn sync(self: &Arc<Self>, transfer: &Inner) -> io::Result<()> {
        let (says, hears) = oneshot::channel();
        let directory = Arc::clone(self);
        transfer.spawn(async move {
            let _alone = directory.syncing.lock().await;
            let synced = directory.store.packs.sync_directory().await;
            if synced.is_err() {
                directory.store.ledger.doubt_written();
            }
            // Whoever asked may be gone.
            says.send(synced).ok();
        });
        hears.await.map_err(io::Error::other)?
    }

    /// Make a pack that is being written present after a power cut.
    pub(crate) async fn settle(self: &Arc<Self>, transfer: &Inner, pack: PackId) -> io::Result<()> {
        self.sync(transfer).await?;
        if self.store.ledger.is_doubtful(pack) {
            return Err(io::Error::other("the pack directory failed to sync after the pack was begun"));
        }
        Ok(())
    }
}
