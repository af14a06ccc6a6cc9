//! The pack an upload is writing, shared by the upload and its cutting lane.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use peerglass_catalog::keyspace::{BoxFuture, Fault};

use crate::disk::{PackFile, PackId};
use crate::pack::{PackWriter, Sealed};
use crate::store::Store;

/// Numbers tried for a new pack before giving up: only packs that came back after a power cut, whose
/// removal was not durable yet, can be in the way.
const NUMBERS_TRIED: usize = 1024;

/// Removes the pack with the last share, unless it was kept.
pub(crate) struct Progress {
    store: Store,
    pack: OnceLock<(PackId, Arc<dyn PackFile>)>,
    written: AtomicU64,
    kept: AtomicBool,
}

impl Progress {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, pack: OnceLock::new(), written: AtomicU64::new(0), kept: AtomicBool::new(false) }
    }

    /// Begin the pack.
    pub(crate) fn begin(&self) -> io::Result<PackWriter> {
        for _ in 0..NUMBERS_TRIED {
            let pack = self.store.ledger.begin_pack();
            match self.store.packs.create(pack) {
                Ok(file) => {
                    self.pack.set((pack, Arc::clone(&file))).ok();
                    return PackWriter::begin(pack, file);
                }
                Err(error) => {
                    self.store.ledger.end_pack(pack);
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(crate) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Begin to make durable what was written so far.
    pub(crate) fn begin_sync(&self) -> Option<BoxFuture<'static, io::Result<()>>> {
        self.pack.get().map(|(_, file)| file.sync())
    }

    /// Enter the sealed pack into the index. From the first row on it is reclaim's business.
    pub(crate) fn enter(&self, sealed: &Sealed, moved_from: Option<PackId>) -> Result<(), Fault> {
        self.store.ledger.begin_record(sealed)?;
        self.kept.store(true, Ordering::Relaxed);
        self.store.ledger.adopt(sealed, moved_from)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let Some((pack, _)) = self.pack.get() else { return };
        if !self.kept.load(Ordering::Relaxed)
            && let Err(error) = self.store.packs.remove(*pack)
        {
            // Nothing is in the index, so reclaim will find the file to be a stray.
            tracing::warn!(%pack, %error, "the pack of a failed upload could not be removed");
        }
        self.store.ledger.end_pack(*pack);
    }
}
