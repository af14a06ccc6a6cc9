//! The pack that is being written, shared by whoever writes it, waits for it and reads it meanwhile.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use peerglass_catalog::Digest;
use peerglass_catalog::keyspace::{BoxFuture, Fault};

use crate::disk::{PackFile, PackId};
use crate::form::Form;
use crate::index::Place;
use crate::pack::{HEADER, PackWriter, Sealed};
use crate::store::Store;

/// Numbers tried for a new pack before giving up: only packs that came back after a power cut, whose
/// removal was not durable yet, can be in the way.
const NUMBERS_TRIED: usize = 1024;

/// Removes the pack with the last share, unless it was kept.
pub(crate) struct Progress {
    store: Store,
    pack: OnceLock<(PackId, Arc<dyn PackFile>)>,
    /// Bytes of blobs appended.
    written: AtomicU64,
    /// Offset and form of each gathered blob, once its run is written. Only looked up, so that
    /// the order of the table shows nowhere.
    places: Mutex<HashMap<Digest, (u64, Form)>>,
    kept: AtomicBool,
}

impl Progress {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            pack: OnceLock::new(),
            written: AtomicU64::new(0),
            places: Mutex::default(),
            kept: AtomicBool::new(false),
        }
    }

    // Each critical section is one step on the map.
    fn places(&self) -> MutexGuard<'_, HashMap<Digest, (u64, Form)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blob is gathered.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.places().contains_key(digest)
    }

    /// The blob is going to be at `offset`.
    pub(super) fn gather(&self, digest: Digest, offset: u64, form: Form) {
        self.places().insert(digest, (offset, form));
    }

    /// Where the blob can be read, sealed or not, and in what form.
    pub(crate) fn place(&self, digest: &Digest) -> Option<(Place, Form)> {
        let (offset, form) = *self.places().get(digest)?;
        // Runs are appended whole, so what begins before the end is there to its end.
        let end = HEADER.len() as u64 + self.written.load(Ordering::Acquire);
        self.pack.get().filter(|_| offset < end).map(|(pack, _)| (Place { pack: *pack, offset }, form))
    }

    /// Begin the pack.
    pub(crate) fn begin(&self) -> io::Result<PackWriter> {
        self.begin_with(|pack| self.store.packs.create(pack))
    }

    /// Begin the pack, which takes the place of a larger one.
    pub(crate) fn begin_smaller(&self) -> io::Result<PackWriter> {
        self.begin_with(|pack| self.store.packs.create_smaller(pack))
    }

    fn begin_with(&self, create: impl Fn(PackId) -> io::Result<Arc<dyn PackFile>>) -> io::Result<PackWriter> {
        for _ in 0..NUMBERS_TRIED {
            let pack = self.store.ledger.begin_pack().map_err(|fault| match fault {
                Fault::Io(error) => error,
                damaged @ Fault::Damaged { .. } => io::Error::other(damaged),
            })?;
            match create(pack) {
                Ok(file) => {
                    self.pack.set((pack, Arc::clone(&file))).ok();
                    return PackWriter::begin(pack, file);
                }
                Err(error) => {
                    self.give_up(pack);
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// There is no file of that number, or it is not ours.
    fn give_up(&self, pack: PackId) {
        if let Err(fault) = self.store.ledger.forget_begun(pack) {
            // The next start does it.
            tracing::warn!(%pack, %fault, "the index still says that a pack was begun which is gone");
        }
        self.store.ledger.end_pack(pack);
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Release);
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Begin to make durable what was written so far.
    fn begin_sync(&self) -> Option<BoxFuture<'static, io::Result<()>>> {
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
        if self.kept.load(Ordering::Relaxed) {
            return self.store.ledger.end_pack(*pack);
        }
        match self.store.packs.remove(*pack) {
            Ok(()) => self.give_up(*pack),
            Err(error) => {
                // Nothing is in the index, so reclaim will find the file to be a stray.
                tracing::warn!(%pack, %error, "the pack of a failed upload could not be removed");
                self.store.ledger.end_pack(*pack);
            }
        }
    }
}

/// Written bytes after which a sync begins in the background, so that the last one is short.
const SYNC_EVERY_BYTES: u64 = 64 << 20;

/// Syncs of a pack that go on while more of it is written.
#[derive(Default)]
pub(crate) struct BackgroundSync {
    going: Option<BoxFuture<'static, io::Result<()>>>,
    /// Up to where the pack was written when the last one began.
    synced: u64,
}

impl BackgroundSync {
    /// Begin one if enough was written since the last.
    pub(crate) fn begin_if_due(&mut self, progress: &Progress) {
        let written = progress.written();
        if self.going.is_none() && written >= self.synced.saturating_add(SYNC_EVERY_BYTES) {
            self.going = progress.begin_sync();
            self.synced = written;
        }
    }

    /// Whether the one that goes on has failed. `cx` is woken when there may be news.
    pub(crate) fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(going) = &mut self.going
            && let Poll::Ready(done) = going.poll_unpin(cx)
        {
            self.going = None;
            done?;
        }
        Ok(())
    }

    /// Wait for the one that goes on.
    pub(crate) async fn finish(self) -> io::Result<()> {
        match self.going {
            Some(going) => going.await,
            None => Ok(()),
        }
    }
}
