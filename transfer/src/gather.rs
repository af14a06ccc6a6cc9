//! What a node does not hold yet, gathered into packs: by an upload that cuts it, by a pull that
//! fetches it.
//!
//! # What it promises
//!
//! * A blob the node holds soundly is relied on, not written again, and stays while the gathering
//!   lives. One that came before in the same gathering is written once.
//! * A chunk that comes from a client is compressed where that pays; one that comes from a peer is kept as it came.
//! * Dropped before [`commit`], it leaves nothing behind but [`Checkpoints`].
//! * Order of durability: blobs and table, trailer, directory, index. An error at any of them leaves
//!   no manifest behind.
//!
//! # What it leaves to others
//!
//! That plain bytes have the digest they are given under.

mod background;
mod begun;
mod commit;
mod progress;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::keyspace::Fault;
use peerglass_catalog::manifest::Root;
use peerglass_catalog::{Digest, ManifestRoot};
use tokio::sync::watch;

use crate::disk::is_full;
use crate::error::{DiskFailure, DownloadError};
use crate::form::{self, Form, Parcel};
use crate::ledger::Pins;
use crate::pack::{BlobKind, HEADER, PackWriter, Row};
use crate::transfer::Inner;

pub(crate) use background::{BackgroundSync, Checkpoints};
pub(crate) use begun::Begun;
pub(crate) use commit::commit;
pub(crate) use progress::Progress;

/// Why gathered bytes could not be kept. None of them are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// The disk has no room.
    #[error("no space is left")]
    Full,
    /// The disk failed.
    #[error(transparent)]
    Disk(DiskFailure),
}

impl From<io::Error> for KeepError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Disk(error.into()) }
    }
}

impl From<Fault> for KeepError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) if is_full(&error) => Self::Full,
            fault @ (Fault::Io(_) | Fault::Damaged { .. }) => Self::Disk(fault.into()),
        }
    }
}

impl From<DownloadError> for KeepError {
    fn from(error: DownloadError) -> Self {
        Self::Disk(DiskFailure::Content(Box::new(error)))
    }
}

/// A pack in the making and what it relies on.
pub(crate) struct Gather {
    progress: Arc<Progress>,
    pins: Pins,
    writer: Option<(Arc<Begun>, PackWriter)>,
    /// New blobs not written yet, and what they are stored as, back to back.
    run: Vec<Row>,
    run_bytes: Vec<u8>,
    /// Pages stay in memory.
    shows_pages: bool,
    writing: Writing,
}

/// That something is being written, perhaps on a thread whose caller is gone: stopping waits for it.
type Writing = watch::Receiver<bool>;

/// All that a manifest names, gathered and not durable yet.
pub(crate) struct Gathered {
    /// The pack with everything the node did not hold, not sealed yet; `None` if it held all.
    writer: Option<(Arc<Begun>, PackWriter)>,
    pins: Pins,
    /// Its packs.
    progress: Arc<Progress>,
    name: ManifestRoot,
    root: Root,
    writing: Writing,
}

/// A pack that nothing more is written to.
struct Unsealed {
    begun: Arc<Begun>,
    writer: PackWriter,
    writing: Writing,
}

impl Gather {
    pub(crate) fn new(transfer: &Inner, progress: Arc<Progress>) -> Self {
        let pins = Pins::new(Arc::clone(&transfer.store.ledger));
        let writing = transfer.stopping.subscribe();
        let (run, run_bytes) = (Vec::new(), Vec::new());
        Self { progress, pins, writer: None, run, run_bytes, shows_pages: false, writing }
    }

    /// Write no pages from now on: nobody will hold what names them.
    pub(crate) fn show_pages(&mut self) {
        self.shows_pages = true;
    }

    /// Whether the blob is neither gathered nor held soundly. What is held is relied on from now on.
    pub(crate) fn is_new(&mut self, digest: &Digest) -> Result<bool, Fault> {
        Ok(!self.progress.has(digest) && !self.pins.rely_on(digest)?)
    }

    /// Keep a chunk, which is new and counts as gathered from now on, compressed if that pays. It is written with
    /// the run.
    pub(crate) fn add_chunk(&mut self, digest: Digest, plain: &[u8]) {
        let form = form::append(plain, &mut self.run_bytes);
        self.enter(digest, form, BlobKind::Chunk);
    }

    /// The same, as it came.
    pub(crate) fn add_parcel(&mut self, digest: Digest, parcel: &Parcel, kind: BlobKind) {
        self.run_bytes.extend_from_slice(&parcel.bytes);
        self.enter(digest, parcel.form, kind);
    }

    fn enter(&mut self, digest: Digest, form: Form, kind: BlobKind) {
        let end = self.pack_bytes().max(HEADER.len() as u64);
        let offset = self.run.last().map_or(end, |last| last.offset + u64::from(last.form.stored_len()));
        self.progress.gather(digest);
        self.run.push(Row { digest, offset, form, kind });
    }

    /// Write what was added since the last time.
    pub(crate) fn write_run(&mut self) -> io::Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        let (_, writer) = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.progress.begin()?),
        };
        writer.append(&self.run_bytes, &self.run)?;
        self.progress.wrote(writer, &self.run, self.run_bytes.len() as u64);
        self.run.clear();
        self.run_bytes.clear();
        Ok(())
    }

    /// Write a page or a root, if it is new, and the run before it.
    pub(crate) fn add_blob(&mut self, digest: Digest, bytes: Bytes, kind: BlobKind) -> Result<(), KeepError> {
        if self.is_new(&digest)? {
            self.add_parcel(digest, &Parcel::raw(bytes), kind);
        }
        Ok(self.write_run()?)
    }

    /// Write a page, or show it.
    pub(crate) fn add_page(&mut self, digest: Digest, bytes: Bytes) -> Result<(), KeepError> {
        if self.shows_pages {
            self.progress.show(digest, bytes);
            return Ok(());
        }
        self.add_blob(digest, bytes, BlobKind::Page)
    }

    /// Length of the pack that is being written; 0 if there is none.
    fn pack_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |(_, writer)| writer.end)
    }

    /// Write what comes next to another pack. What is in this one is relied on.
    fn end_pack(&mut self) -> Option<Unsealed> {
        assert!(self.run.is_empty(), "every run is written");
        let (begun, writer) = self.writer.take()?;
        self.pins.pin(writer.pack);
        Some(Unsealed { begun, writer, writing: self.writing.clone() })
    }

    /// Everything that `root` names is gathered or held, itself included.
    pub(crate) fn finish(self, name: ManifestRoot, root: Root) -> Gathered {
        assert!(self.run.is_empty(), "every run is written");
        let Self { progress, pins, writer, writing, .. } = self;
        Gathered { writer, pins, progress, name, root, writing }
    }
}
