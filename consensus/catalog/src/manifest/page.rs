//! Pages of entries, and the builder that fills them.

use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::manifest::codec::{Reader, put_digest, put_number};

/// Most entries of a page: about 40 KiB encoded, 64 MiB of image at the usual chunk size.
pub const PAGE_ENTRIES_MAX: usize = 1024;

/// Longest chunk a manifest may name, in bytes. Readers allocate this much on a manifest's word.
pub const ENTRY_BYTES_MAX: u32 = 1 << 20;

const VERSION: u8 = 1;
const FLAGS_CHUNK: u8 = 0;
const FLAGS_HOLE: u8 = 1;
/// Flags and one byte of length: no entry is shorter.
const ENTRY_ENCODED_MIN: usize = 2;

/// One run of an image's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Bytes that are stored, once per node however many images hold them.
    Chunk {
        /// Of the plain bytes.
        digest: Digest,
        /// Bytes of image, 1 to [`ENTRY_BYTES_MAX`].
        plain_len: u32,
        /// Bytes on disk, at most `plain_len`; equal to it for a chunk stored as it is.
        stored_len: u32,
    },
    /// Zeros, which are stored nowhere.
    Hole {
        /// How many, at least 1.
        len: u64,
    },
}

impl Entry {
    /// Bytes of image it covers.
    pub fn plain_len(&self) -> u64 {
        match self {
            Self::Chunk { plain_len, .. } => u64::from(*plain_len),
            Self::Hole { len } => *len,
        }
    }
}

/// Up to [`PAGE_ENTRIES_MAX`] entries, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    entries: Vec<Entry>,
    len: u64,
}

impl Page {
    /// A page of `entries`, if they follow the rules of a page.
    pub fn new(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.len() > PAGE_ENTRIES_MAX {
            return Err(too_many(entries.len() as u64));
        }
        if entries.is_empty() {
            return Err(ManifestError::EmptyPage);
        }
        let mut len = 0_u64;
        let mut after_hole = false;
        for entry in &entries {
            check(entry)?;
            let is_hole = matches!(entry, Entry::Hole { .. });
            if is_hole && after_hole {
                return Err(ManifestError::TouchingHoles);
            }
            after_hole = is_hole;
            len = len.checked_add(entry.plain_len()).ok_or(ManifestError::BadTotal)?;
        }
        Ok(Self { entries, len })
    }

    /// The entries, in the order of the image.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of image the page covers; never 0.
    pub fn plain_len(&self) -> u64 {
        self.len
    }

    /// The page as a blob.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.entries.len() * 40);
        out.push(VERSION);
        put_number(&mut out, self.entries.len() as u64);
        for entry in &self.entries {
            match entry {
                Entry::Chunk { digest, plain_len, stored_len } => {
                    out.push(FLAGS_CHUNK);
                    put_number(&mut out, u64::from(*plain_len));
                    put_number(&mut out, u64::from(*stored_len));
                    put_digest(&mut out, digest);
                }
                Entry::Hole { len } => {
                    out.push(FLAGS_HOLE);
                    put_number(&mut out, *len);
                }
            }
        }
        out
    }

    /// The page that `bytes` encode. Takes hostile bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let count = reader.number()?;
        if count > PAGE_ENTRIES_MAX as u64 {
            return Err(too_many(count));
        }
        let mut entries = Vec::with_capacity((count as usize).min(reader.remaining() / ENTRY_ENCODED_MIN));
        for _ in 0..count {
            entries.push(entry(&mut reader)?);
        }
        reader.end()?;
        Self::new(entries)
    }
}

fn too_many(count: u64) -> ManifestError {
    ManifestError::TooMany { count, max: PAGE_ENTRIES_MAX as u64 }
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, ManifestError> {
    match reader.byte()? {
        FLAGS_CHUNK => {
            let (plain_len, stored_len) = (reader.number()?, reader.number()?);
            let bad = ManifestError::BadChunk { plain_len, stored_len };
            Ok(Entry::Chunk {
                plain_len: u32::try_from(plain_len).map_err(|_| bad)?,
                stored_len: u32::try_from(stored_len).map_err(|_| bad)?,
                digest: reader.digest()?,
            })
        }
        FLAGS_HOLE => Ok(Entry::Hole { len: reader.number()? }),
        flags => Err(ManifestError::UnknownFlags(flags)),
    }
}

fn check(entry: &Entry) -> Result<(), ManifestError> {
    match *entry {
        Entry::Hole { len: 0 } | Entry::Chunk { plain_len: 0, .. } => Err(ManifestError::EmptyItem),
        Entry::Chunk { plain_len, stored_len, .. }
            if plain_len > ENTRY_BYTES_MAX || stored_len > plain_len || stored_len == 0 =>
        {
            Err(ManifestError::BadChunk { plain_len: plain_len.into(), stored_len: stored_len.into() })
        }
        Entry::Hole { .. } | Entry::Chunk { .. } => Ok(()),
    }
}

/// Turns a run of entries into pages, merging holes that touch, so that one content has one encoding.
#[derive(Debug, Default)]
pub struct Builder {
    entries: Vec<Entry>,
}

impl Builder {
    /// A builder without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add the next run of the image. Answers with a page whenever one is complete.
    ///
    /// The error is a bug of the caller: an entry that breaks the rules of [`Entry`].
    pub fn push(&mut self, entry: Entry) -> Result<Option<Page>, ManifestError> {
        check(&entry)?;
        if let (Some(Entry::Hole { len }), Entry::Hole { len: more }) = (self.entries.last_mut(), entry) {
            *len = len.checked_add(more).ok_or(ManifestError::BadTotal)?;
            return Ok(None);
        }
        // A full page waits for the entry after it: until then its last hole may still grow.
        let complete = if self.entries.len() == PAGE_ENTRIES_MAX { self.take()? } else { None };
        self.entries.push(entry);
        Ok(complete)
    }

    /// The last page, unless the image was empty.
    pub fn finish(mut self) -> Result<Option<Page>, ManifestError> {
        self.take()
    }

    fn take(&mut self) -> Result<Option<Page>, ManifestError> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        Page::new(std::mem::take(&mut self.entries)).map(Some)
    }
}
