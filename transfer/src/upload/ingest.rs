//! The lane that cuts, names, finds what is held already, and writes the rest.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::manifest::{Builder, Entry, ManifestError, Page, PageRef, Root};
use peerglass_catalog::{Digest, ManifestRoot};

use super::progress::Progress;
use crate::chunking::{CUT, Cut, Cutter, LOOK_AHEAD};
use crate::error::{DiskFailure, DownloadError, UploadError};
use crate::ledger::Pins;
use crate::pack::{BlobKind, HEADER, PackWriter, Row};
use crate::workers::LaneWork;

/// What cutting an upload came to.
pub(crate) struct Ingested {
    /// The pack with everything the node did not hold, not sealed yet; `None` if it held all.
    pub(crate) writer: Option<PackWriter>,
    pub(crate) pins: Pins,
    pub(crate) name: ManifestRoot,
    pub(crate) root: Root,
}

/// See the module.
pub(crate) struct Ingest {
    progress: Arc<Progress>,
    pins: Pins,
    cutter: Cutter,
    builder: Builder,
    pages: Vec<PageRef>,
    /// The end of the segment before, too short to decide on.
    carry: Vec<u8>,
    writer: Option<PackWriter>,
    /// What `writer` holds.
    written: HashSet<Digest>,
    /// New blobs not written yet, which lie back to back.
    run: Vec<Row>,
}

impl Ingest {
    pub(crate) fn new(progress: Arc<Progress>, pins: Pins) -> Self {
        Self {
            progress,
            pins,
            cutter: Cutter::default(),
            builder: Builder::new(),
            pages: Vec::new(),
            carry: Vec::new(),
            writer: None,
            written: HashSet::new(),
            run: Vec::new(),
        }
    }

    /// Cut `bytes` as far as can be decided, but begin no chunk at `until` or later. Answers with how
    /// many bytes were cut.
    fn cut(&mut self, bytes: &[u8], until: usize, end: bool) -> Result<usize, UploadError> {
        let mut at = 0;
        let mut run_start = 0;
        while at < until
            && let Some(cut) = self.cutter.next(&bytes[at..], end)
        {
            let (entry, len) = match cut {
                Cut::Hole(len) => (Entry::Hole { len: len as u64 }, len),
                Cut::Chunk(len) => {
                    let digest = Digest::of(&bytes[at..at + len]);
                    (Entry::Chunk { digest, plain_len: len as u32, stored_len: len as u32 }, len)
                }
            };
            let new = match &entry {
                Entry::Hole { .. } => false,
                Entry::Chunk { digest, .. } => self.is_new(digest)?,
            };
            if let (true, Entry::Chunk { digest, .. }) = (new, &entry) {
                if self.run.is_empty() {
                    run_start = at;
                }
                self.add_to_run(*digest, len, BlobKind::Chunk);
            } else {
                self.write_run(&bytes[run_start..at])?;
            }
            at += len;
            if let Some(page) = self.builder.push(entry).map_err(bug)? {
                self.write_run(if self.run.is_empty() { &[] } else { &bytes[run_start..at] })?;
                self.close_page(&page)?;
            }
        }
        self.write_run(if self.run.is_empty() { &[] } else { &bytes[run_start..at] })?;
        Ok(at)
    }

    /// Whether the blob must be written. If so it counts as written from now on.
    fn is_new(&mut self, digest: &Digest) -> Result<bool, UploadError> {
        Ok(!self.written.contains(digest) && !self.pins.rely_on(digest)? && self.written.insert(*digest))
    }

    fn add_to_run(&mut self, digest: Digest, len: usize, kind: BlobKind) {
        let end = self.writer.as_ref().map_or(HEADER.len() as u64, |writer| writer.end);
        let offset = self.run.last().map_or(end, |last| last.offset + u64::from(last.stored_len));
        let len = u32::try_from(len).expect("no blob is 4 GiB long: pages and roots have limits");
        self.run.push(Row { digest, offset, stored_len: len, plain_len: len, kind });
    }

    /// Write the pending blobs, which are exactly `bytes`.
    fn write_run(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        if self.run.is_empty() {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.progress.begin()?),
        };
        writer.append(bytes, &self.run)?;
        self.run.clear();
        self.progress.wrote(bytes.len() as u64);
        Ok(())
    }

    fn close_page(&mut self, page: &Page) -> Result<(), UploadError> {
        let encoded = page.encode();
        let digest = Digest::of(&encoded);
        self.pages.push(PageRef { digest, plain_len: page.plain_len() });
        self.add_blob(digest, &encoded, BlobKind::Page)
    }

    fn add_blob(&mut self, digest: Digest, bytes: &[u8], kind: BlobKind) -> Result<(), UploadError> {
        if self.is_new(&digest)? {
            self.add_to_run(digest, bytes.len(), kind);
            self.write_run(bytes)?;
        }
        Ok(())
    }
}

impl LaneWork for Ingest {
    type Output = Ingested;

    fn feed(&mut self, segment: &Bytes) -> Result<(), UploadError> {
        let mut start = 0;
        if !self.carry.is_empty() {
            // Only the seam is copied: what was carried over and enough of the segment to decide on
            // every chunk that begins in it.
            let carried = self.carry.len();
            let mut seam = std::mem::take(&mut self.carry);
            let borrowed = segment.len().min(LOOK_AHEAD);
            seam.extend_from_slice(&segment[..borrowed]);
            let cut = self.cut(&seam, carried, false)?;
            if cut < carried {
                // The segment is too short to decide: all of it is in the seam.
                seam.extend_from_slice(&segment[borrowed..]);
                seam.drain(..cut);
                self.carry = seam;
                return Ok(());
            }
            start = cut - carried;
            seam.clear();
            self.carry = seam;
        }
        let rest = &segment[start..];
        let cut = self.cut(rest, rest.len(), false)?;
        self.carry.extend_from_slice(&rest[cut..]);
        Ok(())
    }

    fn finish(mut self) -> Result<Ingested, UploadError> {
        let carry = std::mem::take(&mut self.carry);
        let cut = self.cut(&carry, carry.len(), true)?;
        assert_eq!(cut, carry.len(), "at the end everything is cut");
        if let Some(page) = std::mem::take(&mut self.builder).finish().map_err(bug)? {
            self.close_page(&page)?;
        }
        let root = Root::new(CUT, std::mem::take(&mut self.pages)).map_err(bug)?;
        let encoded = root.encode();
        let name = Root::name(&encoded);
        self.add_blob(name.0, &encoded, BlobKind::Root)?;
        Ok(Ingested { writer: self.writer, pins: self.pins, name, root })
    }
}

/// The cutter broke a rule of manifests, or the image has more pages than a manifest can.
fn bug(error: ManifestError) -> UploadError {
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    UploadError::Disk(DiskFailure::Content(Box::new(DownloadError::Disk(DiskFailure::Packs(error)))))
}
