//! What is gathered and can be read before it is held, shared by whoever writes it, waits for it and reads it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use peerglass_catalog::Digest;
use peerglass_catalog::keyspace::BoxFuture;

use super::begun::Begun;
use crate::disk::PackFile;
use crate::form::Form;
use crate::index::Place;
use crate::pack::{PackWriter, Row};
use crate::store::Store;

/// Keeps its packs while it lives, whether they are held in the end or not.
pub(crate) struct Progress {
    store: Store,
    state: Mutex<State>,
    /// What is read as well.
    also: Option<Arc<Progress>>,
    /// Bytes of blobs appended.
    written: AtomicU64,
}

#[derive(Default)]
struct State {
    packs: Vec<Arc<Begun>>,
    /// Of the pack that was begun last.
    file: Option<Arc<dyn PackFile>>,
    /// Each gathered blob: where it is and in what form, once its run is written. Only looked up, so that
    /// the order of the table shows nowhere.
    places: HashMap<Digest, Option<(Place, Form)>>,
    /// Blobs that are in memory only.
    shown: HashMap<Digest, Bytes>,
}

impl Progress {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, state: Mutex::default(), also: None, written: AtomicU64::new(0) }
    }

    /// Blobs in memory beside what `other` has gathered.
    pub(crate) fn beside(other: &Arc<Self>) -> Self {
        Self { also: Some(Arc::clone(other)), ..Self::new(other.store.clone()) }
    }

    // Each critical section is one step on one field.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blob is gathered.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.state().places.contains_key(digest)
    }

    /// The blob is going to be written with the run.
    pub(super) fn gather(&self, digest: Digest) {
        self.state().places.insert(digest, None);
    }

    /// Let a blob be read from memory, which is what it is called.
    pub(crate) fn show(&self, digest: Digest, bytes: Bytes) {
        self.state().shown.insert(digest, bytes);
    }

    /// A blob that is in memory.
    pub(crate) fn shown(&self, digest: &Digest) -> Option<Bytes> {
        self.state().shown.get(digest).cloned()
    }

    /// Where the blob can be read, sealed or not, and in what form.
    pub(crate) fn place(&self, digest: &Digest) -> Option<(Place, Form)> {
        let own = self.state().places.get(digest).copied().flatten();
        own.or_else(|| self.also.as_ref()?.place(digest))
    }

    /// Begin a pack.
    pub(super) fn begin(&self) -> io::Result<(Arc<Begun>, PackWriter)> {
        let (begun, writer) = Begun::new(&self.store)?;
        let mut state = self.state();
        state.packs.push(Arc::clone(&begun));
        state.file = Some(Arc::clone(&writer.file));
        Ok((begun, writer))
    }

    /// A run was appended to the pack of `writer`.
    pub(super) fn wrote(&self, writer: &PackWriter, run: &[Row], bytes: u64) {
        let mut state = self.state();
        for row in run {
            let place = Place { pack: writer.pack, offset: row.offset };
            state.places.insert(row.digest, Some((place, row.form)));
        }
        drop(state);
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Begin to make durable what was written so far.
    pub(super) fn begin_sync(&self) -> Option<BoxFuture<'static, io::Result<()>>> {
        self.state().file.as_ref().map(|file| file.sync())
    }
}
