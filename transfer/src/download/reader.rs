//! Reads one range of one image in order, a few chunks at a time.
//!
//! Pages are read when they are reached, so a range costs its own pages and the root, however long
//! the image is. What is not here, or not soundly, is a [`Stop`] that says so; the reader goes on from there
//! once it was lent the blobs or finds them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::Digest;
use peerglass_catalog::manifest::{Entry, Page, Root};

use crate::error::DownloadError;
use crate::exchange::{PAGE_BYTES_MAX, Want, WantLen};
use crate::form::Form;
use crate::gather::Progress;
use crate::index::Place;
use crate::segment::{SEGMENT_BYTES, Segments};
use crate::store::{BlobReader, is_called};

/// What holes are made of.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// See the module.
pub(super) struct RangeReader {
    blobs: BlobReader,
    root: Root,
    segments: Arc<Segments>,
    range: Range<u64>,
    /// Blobs to use before what is stored.
    lent: BTreeMap<Digest, Bytes>,
    /// The page `range.start` is in, once it has been read.
    page: Option<Page>,
    /// The page to read next, and where it begins.
    next_page: usize,
    next_page_start: u64,
    /// The entry `range.start` is in, and where it begins.
    entry: usize,
    entry_start: u64,
}

/// Why the next bytes were not read.
pub(super) enum Stop {
    Lacks(Lacks),
    Error(DownloadError),
}

/// Blobs that must be had from elsewhere.
pub(super) struct Lacks {
    pub(super) wants: Vec<Want>,
    /// Where in the image the first begins, or what a page is wanted for.
    pub(super) at: u64,
    /// What the lack is if they cannot be had.
    pub(super) error: DownloadError,
}

impl From<DownloadError> for Stop {
    fn from(error: DownloadError) -> Self {
        Self::Error(error)
    }
}

/// One chunk of a batch: where and how it is on disk, unless it was lent, and where in the buffer, plain.
struct Wanted {
    digest: Digest,
    stored: Option<(Place, Form)>,
    buffer: Range<usize>,
}

impl Wanted {
    fn stored_len(&self) -> usize {
        self.stored.map_or(0, |(_, form)| form.stored_len() as usize)
    }
}

impl RangeReader {
    pub(super) fn new(blobs: BlobReader, root: Root, range: Range<u64>, segments: Arc<Segments>) -> Self {
        Self {
            blobs,
            root,
            segments,
            range,
            lent: BTreeMap::new(),
            page: None,
            next_page: 0,
            next_page_start: 0,
            entry: 0,
            entry_start: 0,
        }
    }

    /// Use these blobs, which have been verified.
    pub(super) fn lend(&mut self, blobs: Vec<(Digest, Bytes)>) {
        self.lent.extend(blobs);
    }

    /// Read also what `progress` has gathered.
    pub(super) fn read_beside(&mut self, progress: Arc<Progress>) {
        self.blobs.read_beside(progress);
    }

    /// The next bytes, verified; `None` at the end of the range.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Stop> {
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
    fn seek(&mut self) -> Result<Entry, Stop> {
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
    fn turn_page(&mut self, at: u64) -> Result<(), Stop> {
        loop {
            let found = self.root.pages().get(self.next_page).copied();
            let page = found.ok_or(DownloadError::OutOfRange { size: self.root.plain_len() })?;
            let start = self.next_page_start;
            if at < start + page.plain_len {
                let read = self.read_page(&page.digest, at)?;
                // Both are named by digests of this manifest, so only a broken writer can get here.
                if read.plain_len() != page.plain_len {
                    return Err(DownloadError::Damaged { pack: None, digest: page.digest }.into());
                }
                self.page = Some(read);
                self.entry = 0;
                self.entry_start = start;
            }
            self.next_page += 1;
            self.next_page_start += page.plain_len;
            if at < self.next_page_start {
                return Ok(());
            }
        }
    }

    fn read_page(&mut self, digest: &Digest, at: u64) -> Result<Page, Stop> {
        if let Some(lent) = self.lent.remove(digest) {
            let damaged = |_| DownloadError::Damaged { pack: None, digest: *digest };
            return Ok(Page::decode(&lent).map_err(damaged)?);
        }
        self.blobs.page(digest).map_err(|error| match error {
            error @ DownloadError::Damaged { .. } => Stop::Lacks(Lacks {
                wants: vec![Want { digest: *digest, len: WantLen::AtMost(PAGE_BYTES_MAX) }],
                at,
                error,
            }),
            error @ (DownloadError::Missing(_)
            | DownloadError::OutOfRange { .. }
            | DownloadError::Disk(_)
            | DownloadError::Stopped) => Stop::Error(error),
        })
    }

    /// Read and verify chunks from the current entry on, up to a segment of them.
    fn batch(&mut self) -> Result<Bytes, Stop> {
        let (wanted, len) = self.choose()?;
        let mut segment = self.segments.take_scratch(len);
        let buffer = segment.as_mut();
        let mut lacks = Vec::new();
        let mut lack = None;
        let mut rest = &wanted[..];
        while let Some((first, after)) = rest.split_first() {
            let Some((place, _)) = first.stored else {
                let lent = self.lent.get(&first.digest).filter(|lent| lent.len() == first.buffer.len());
                let lent = lent.ok_or(DownloadError::Damaged { pack: None, digest: first.digest })?;
                buffer[first.buffer.clone()].copy_from_slice(lent);
                rest = after;
                continue;
            };
            let run = 1 + rest.windows(2).take_while(|pair| adjoins(&pair[0], &pair[1])).count();
            let (run, after) = rest.split_at(run);
            for chunk in self.read_run(place, run, buffer) {
                // Alone, which tells the damaged chunk from its neighbours, and looks it up again in
                // case reclaim has moved it.
                match self.blobs.blob(&chunk.digest) {
                    Ok(plain) if plain.len() == chunk.buffer.len() => {
                        buffer[chunk.buffer.clone()].copy_from_slice(&plain);
                    }
                    // Sound, and not what this manifest takes it for.
                    Ok(_) => return Err(DownloadError::Damaged { pack: None, digest: chunk.digest }.into()),
                    Err(error @ DownloadError::Damaged { .. }) => {
                        lacks.push(want(chunk.digest, chunk.buffer.len()));
                        lack.get_or_insert(error);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            rest = after;
        }
        if let Some(error) = lack {
            return Err(self.lacks(lacks, error));
        }
        for chunk in &wanted {
            self.lent.remove(&chunk.digest);
        }
        let skip = (self.range.start - self.entry_start) as usize;
        let over = (self.entry_start + len as u64).saturating_sub(self.range.end) as usize;
        Ok(segment.freeze().slice(skip..len - over))
    }

    /// Read chunks that lie back to back on disk, and put the plain bytes of each into its part of `buffer`.
    /// Answers with those that were not read or are something else.
    fn read_run<'a>(&mut self, place: Place, run: &'a [Wanted], buffer: &mut [u8]) -> Vec<&'a Wanted> {
        let stored = run.iter().map(Wanted::stored_len).sum();
        let plain = run.iter().map(|chunk| chunk.buffer.len()).sum();
        let start = run.first().map_or(0, |first| first.buffer.start);
        let is_sound =
            |chunk: &&Wanted, buffer: &[u8]| is_called(&buffer[chunk.buffer.clone()], &chunk.digest);
        if stored == plain {
            // None of them is compressed, so they lie in the buffer as they do on disk.
            let read = self.blobs.read(place, &mut buffer[start..start + plain]).is_ok();
            return run.iter().filter(|chunk| !(read && is_sound(chunk, buffer))).collect();
        }
        let mut scratch = self.segments.take_scratch(stored);
        let read = self.blobs.read(place, scratch.as_mut()).is_ok();
        let mut rest = scratch.as_ref();
        let mut unsound = Vec::new();
        for chunk in run {
            let (stored, after) = rest.split_at(chunk.stored_len());
            rest = after;
            let form = chunk.stored.filter(|_| read).map(|(_, form)| form);
            let opened = form.is_some_and(|form| form.open_into(stored, &mut buffer[chunk.buffer.clone()]));
            if !(opened && is_sound(&chunk, buffer)) {
                unsound.push(chunk);
            }
        }
        unsound
    }

    /// The chunks of the next batch, and how long they are together. It ends before the first that is
    /// not here; if that is the very first, all that are not here are lacks.
    fn choose(&self) -> Result<(Vec<Wanted>, usize), Stop> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut lacks = Vec::new();
        let mut lack = None;
        let mut len = 0;
        for entry in self.page.iter().flat_map(|page| &page.entries()[self.entry..]) {
            let Entry::Chunk { digest, plain_len, .. } = entry else { break };
            let end = len + *plain_len as usize;
            if end > SEGMENT_BYTES || self.entry_start + len as u64 >= self.range.end {
                break;
            }
            let stored = match self.blobs.find(digest) {
                _ if self.lent.contains_key(digest) => None,
                Ok((_, form)) if form.plain_len() != *plain_len => {
                    // Only a broken writer says so, as of pages.
                    return Err(DownloadError::Damaged { pack: None, digest: *digest }.into());
                }
                Ok(stored) => Some(stored),
                Err(DownloadError::Damaged { .. }) if !wanted.is_empty() => break,
                Err(error @ DownloadError::Damaged { .. }) => {
                    lacks.push(want(*digest, *plain_len as usize));
                    lack.get_or_insert(error);
                    len = end;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if lack.is_none() {
                wanted.push(Wanted { digest: *digest, stored, buffer: len..end });
            }
            len = end;
        }
        match lack {
            Some(error) => Err(self.lacks(lacks, error)),
            None => Ok((wanted, len)),
        }
    }

    fn lacks(&self, wants: Vec<Want>, error: DownloadError) -> Stop {
        Stop::Lacks(Lacks { wants, at: self.entry_start, error })
    }
}

fn want(digest: Digest, len: usize) -> Want {
    Want { digest, len: WantLen::Exactly(len as u32) }
}

/// Whether `next` begins on disk where `chunk` ends.
fn adjoins(chunk: &Wanted, next: &Wanted) -> bool {
    let (Some((place, form)), Some((next, _))) = (chunk.stored, next.stored) else { return false };
    place.pack == next.pack && place.offset.saturating_add(u64::from(form.stored_len())) == next.offset
}
