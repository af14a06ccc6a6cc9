//! Reads one range of one image in order, a few chunks at a time.
//!
//! Pages are read when they are reached, so a range costs its own pages and the root, however long
//! the image is.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::Digest;
use peerglass_catalog::manifest::{Entry, Page, Root};

use crate::error::DownloadError;
use crate::index::Place;
use crate::segment::{SEGMENT_BYTES, Segments};
use crate::store::BlobReader;

/// What holes are made of.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// See the module.
pub(super) struct RangeReader {
    blobs: BlobReader,
    root: Root,
    segments: Arc<Segments>,
    range: Range<u64>,
    /// The page `range.start` is in, once it has been read.
    page: Option<Page>,
    /// The page to read next, and where it begins.
    next_page: usize,
    next_page_start: u64,
    /// The entry `range.start` is in, and where it begins.
    entry: usize,
    entry_start: u64,
}

/// One chunk of a batch: where it is on disk and in the buffer.
struct Wanted {
    digest: Digest,
    place: Place,
    buffer: Range<usize>,
}

impl RangeReader {
    pub(super) fn new(blobs: BlobReader, root: Root, range: Range<u64>, segments: Arc<Segments>) -> Self {
        Self {
            blobs,
            root,
            segments,
            range,
            page: None,
            next_page: 0,
            next_page_start: 0,
            entry: 0,
            entry_start: 0,
        }
    }

    /// The next bytes, verified; `None` at the end of the range.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let entry = self.seek()?;
        let piece = match entry {
            Entry::Hole { len } => {
                let left = (self.entry_start + len).min(self.range.end) - self.range.start;
                Bytes::from_static(
                    &ZEROS[..usize::try_from(left).map_or(ZEROS.len(), |l| l.min(ZEROS.len()))],
                )
            }
            Entry::Chunk { .. } => self.batch()?,
        };
        self.range.start += piece.len() as u64;
        Ok(Some(piece))
    }

    /// Go to the entry that `range.start` is in.
    fn seek(&mut self) -> Result<Entry, DownloadError> {
        let at = self.range.start;
        loop {
            if let Some(page) = &self.page {
                while let Some(entry) = page.entries().get(self.entry) {
                    if at < self.entry_start + entry.plain_len() {
                        return Ok(*entry);
                    }
                    self.entry_start += entry.plain_len();
                    self.entry += 1;
                }
            }
            self.turn_page(at)?;
        }
    }

    /// Read the page that holds `at`.
    fn turn_page(&mut self, at: u64) -> Result<(), DownloadError> {
        loop {
            let found = self.root.pages().get(self.next_page).copied();
            let page = found.ok_or(DownloadError::OutOfRange { size: self.root.plain_len() })?;
            let start = self.next_page_start;
            self.next_page += 1;
            self.next_page_start += page.plain_len;
            if at < self.next_page_start {
                let read = self.blobs.page(&page.digest)?;
                // Both are named by digests of this manifest, so only a broken writer can get here.
                if read.plain_len() != page.plain_len {
                    return Err(DownloadError::Damaged { pack: None, digest: page.digest });
                }
                self.page = Some(read);
                self.entry = 0;
                self.entry_start = start;
                return Ok(());
            }
        }
    }

    /// Read and verify chunks from the current entry on, up to a segment of them.
    fn batch(&mut self) -> Result<Bytes, DownloadError> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut len = 0;
        let mut start = self.entry_start;
        for entry in self.page.iter().flat_map(|page| &page.entries()[self.entry..]) {
            let Entry::Chunk { digest, plain_len, .. } = entry else { break };
            let end = len + *plain_len as usize;
            if end > SEGMENT_BYTES || start >= self.range.end {
                break;
            }
            let (_, place) = self.blobs.find(digest)?;
            wanted.push(Wanted { digest: *digest, place, buffer: len..end });
            start += u64::from(*plain_len);
            len = end;
        }
        let mut segment = self.segments.take_scratch(len);
        let buffer = segment.as_mut();
        let mut rest = &wanted[..];
        while let Some((first, _)) = rest.split_first() {
            let run = rest.iter().take_while(|chunk| adjoins(first, chunk)).count();
            let (run, after) = rest.split_at(run);
            let end = run.last().map_or(first.buffer.end, |last| last.buffer.end);
            let read = self.blobs.read(first.place, &mut buffer[first.buffer.start..end]);
            for chunk in run {
                let bytes = &mut buffer[chunk.buffer.clone()];
                if read.is_err() || Digest::of(bytes) != chunk.digest {
                    // Alone, which tells the damaged chunk from its neighbours, and looks it up
                    // again in case reclaim has moved it.
                    self.blobs.read_blob(&chunk.digest, bytes)?;
                }
            }
            rest = after;
        }
        let skip = (self.range.start - self.entry_start) as usize;
        let over = start.saturating_sub(self.range.end) as usize;
        Ok(segment.freeze().slice(skip..len - over))
    }
}

/// Whether `chunk` is as far behind `first` on disk as it is in the buffer.
fn adjoins(first: &Wanted, chunk: &Wanted) -> bool {
    let distance = (chunk.buffer.start - first.buffer.start) as u64;
    chunk.place.pack == first.place.pack && chunk.place.offset == first.place.offset + distance
}
