//! The lane that cuts, names, finds what is held already, and compresses and writes the rest.

use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::Digest;
use peerglass_catalog::manifest::{Builder, Entry, ManifestError, Page, PageRef, Root};

use crate::chunking::{CUT, Cut, Cutter, LOOK_AHEAD};
use crate::error::{DiskFailure, DownloadError, UploadError};
use crate::exchange::Written;
use crate::gather::{Gather, Gathered, KeepError};
use crate::pack::BlobKind;
use crate::workers::LaneWork;

/// See the module.
pub(crate) struct Ingest {
    gather: Gather,
    /// Where it is said what is written, if anybody listens.
    written: Option<Arc<Written>>,
    cutter: Cutter,
    builder: Builder,
    pages: Vec<PageRef>,
    /// The end of the segment before, too short to decide on.
    carry: Vec<u8>,
}

impl Ingest {
    pub(crate) fn new(gather: Gather, written: Option<Arc<Written>>) -> Self {
        Self {
            gather,
            written,
            cutter: Cutter::default(),
            builder: Builder::new(),
            pages: Vec::new(),
            carry: Vec::new(),
        }
    }

    /// Cut `bytes` as far as can be decided, but begin no chunk at `until` or later. Answers with how
    /// many bytes were cut.
    fn cut(&mut self, bytes: &[u8], until: usize, end: bool) -> Result<usize, UploadError> {
        let mut at = 0;
        let mut entries = Vec::new();
        while at < until
            && let Some(cut) = self.cutter.next(&bytes[at..], end)
        {
            let (entry, len) = match cut {
                Cut::Hole(len) => (Entry::Hole { len: len as u64 }, len),
                Cut::Chunk(len) => {
                    let plain = &bytes[at..at + len];
                    let digest = Digest::of(plain);
                    if self.gather.is_new(&digest).map_err(KeepError::from)? {
                        self.gather.add_chunk(digest, plain);
                    }
                    // What names an image must not depend on how a release compresses it.
                    (Entry::Chunk { digest, plain_len: len as u32, stored_len: len as u32 }, len)
                }
            };
            at += len;
            if matches!(entry, Entry::Chunk { .. }) && self.written.is_some() {
                entries.push(entry);
            }
            if let Some(page) = self.builder.push(entry).map_err(bug)? {
                self.close_page(&page)?;
            }
        }
        self.gather.write_run().map_err(KeepError::from)?;
        if let Some(written) = &self.written {
            written.add(&entries);
        }
        Ok(at)
    }

    fn close_page(&mut self, page: &Page) -> Result<(), UploadError> {
        let encoded = page.encode();
        let digest = Digest::of(&encoded);
        self.pages.push(PageRef { digest, plain_len: page.plain_len() });
        Ok(self.gather.add_blob(digest, encoded.into(), BlobKind::Page)?)
    }
}

impl LaneWork for Ingest {
    type Output = Gathered;

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

    fn finish(mut self) -> Result<Gathered, UploadError> {
        let carry = std::mem::take(&mut self.carry);
        let cut = self.cut(&carry, carry.len(), true)?;
        assert_eq!(cut, carry.len(), "at the end everything is cut");
        if let Some(page) = std::mem::take(&mut self.builder).finish().map_err(bug)? {
            self.close_page(&page)?;
        }
        let root = Root::new(CUT, std::mem::take(&mut self.pages)).map_err(bug)?;
        let encoded = root.encode();
        let name = Root::name(&encoded);
        self.gather.add_blob(name.0, encoded.into(), BlobKind::Root)?;
        Ok(self.gather.finish(name, root))
    }
}

/// The cutter broke a rule of manifests, or the image has more pages than a manifest can.
fn bug(error: ManifestError) -> UploadError {
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    UploadError::Disk(DiskFailure::Content(Box::new(DownloadError::Disk(DiskFailure::Packs(error)))))
}
