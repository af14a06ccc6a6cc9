//! The pack file: blobs one after the other, a table of them, and a trailer that seals it.
//!
//! ```text
//! header   16 bytes   magic, version 2
//! blobs               back to back, in the order they were written
//! table               56 bytes per blob: digest, offset, stored length, plain length, kind, form
//! trailer  64 bytes   table offset, number of blobs, BLAKE3 of the table, checksum, magic, version 2
//! ```
//!
//! A blob's form is 0, as it is, or 1, one zstd frame, which only a chunk may be and only if it is shorter for it.
//! In packs of version 1 every blob is as it is; they are read like the others.
//!
//! # What it promises
//!
//! * A pack with a valid trailer is whole: [`seal`] syncs blobs and table *before* it appends the
//!   trailer, and syncs again after. A pack without one is what a crash left of an upload.
//! * The index can be rebuilt from sealed packs alone: which manifests a node holds is told by the
//!   blobs of kind [`BlobKind::Root`].
//! * Reading a table takes hostile bytes and allocates no more than the file is long.

use std::io;
use std::sync::Arc;

use peerglass_catalog::Digest;
use serde::{Deserialize, Serialize};

use crate::disk::{PackFile, PackId};
use crate::form::Form;

/// Bytes before the first blob.
pub(crate) const HEADER: [u8; 16] = *b"peerglass pack\0\x02";
/// Bytes after the table.
pub(crate) const TRAILER_BYTES: u64 = 64;
const ROW_BYTES: u64 = 56;
/// Rows of a table written at once, some 900 KiB: the table of a large image is as large as what is kept of it
/// in memory, and need not be there twice.
const ROWS_PER_APPEND: usize = 16 * 1024;
const TRAILER_MAGIC: [u8; 7] = *b"pgseal\0";
/// What packs are written as, and the one before, which had no form but [`RAW`].
const VERSION: u8 = 2;
const VERSION_RAW: u8 = 1;
const RAW: u32 = 0;
const ZSTD: u32 = 1;

/// What a blob is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum BlobKind {
    Chunk,
    Page,
    Root,
}

impl BlobKind {
    fn code(self) -> u32 {
        match self {
            Self::Chunk => 0,
            Self::Page => 1,
            Self::Root => 2,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        [Self::Chunk, Self::Page, Self::Root].into_iter().find(|kind| kind.code() == code)
    }
}

/// Where in its pack one blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) digest: Digest,
    pub(crate) offset: u64,
    pub(crate) form: Form,
    pub(crate) kind: BlobKind,
}

/// Why a pack's table cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// No trailer: the pack was never sealed, or its end is lost.
    #[error("it has no valid trailer")]
    Unsealed,
    /// The trailer is valid and the rest contradicts it.
    #[error("its table does not match its trailer")]
    DamagedTable,
    /// Sealed by a newer release.
    #[error("its version {0} is not known")]
    UnknownVersion(u8),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A sealed pack's trailer, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trailer {
    version: u8,
    table_offset: u64,
    rows: u64,
    table_digest: Digest,
}

impl Trailer {
    /// Read the trailer of `file`.
    pub(crate) fn read(file: &dyn PackFile) -> Result<Self, PackError> {
        let len = file.len()?;
        let at = len.checked_sub(TRAILER_BYTES).filter(|at| *at >= HEADER.len() as u64);
        let at = at.ok_or(PackError::Unsealed)?;
        let mut bytes = [0; TRAILER_BYTES as usize];
        file.read_at(at, &mut bytes)?;
        let (body, end) = bytes.split_at(48);
        let version = end[15];
        if end[8..15] != TRAILER_MAGIC || end[..8] != blake3::hash(body).as_bytes()[..8] {
            return Err(PackError::Unsealed);
        }
        if ![VERSION, VERSION_RAW].contains(&version) {
            return Err(PackError::UnknownVersion(version));
        }
        let trailer = Self {
            version,
            table_offset: u64::from_le_bytes(array_at(body, 0)),
            rows: u64::from_le_bytes(array_at(body, 8)),
            table_digest: Digest(array_at(body, 16)),
        };
        let end = trailer.table_bytes().and_then(|bytes| bytes.checked_add(trailer.table_offset));
        if end == Some(at) { Ok(trailer) } else { Err(PackError::DamagedTable) }
    }

    /// Length of the table, in bytes.
    pub(crate) fn table_bytes(&self) -> Option<u64> {
        self.rows.checked_mul(ROW_BYTES)
    }

    /// Read and check the table.
    pub(crate) fn table(&self, file: &dyn PackFile) -> Result<Vec<Row>, PackError> {
        let bytes = self.table_bytes().and_then(|bytes| usize::try_from(bytes).ok());
        // The trailer was checked against the length of the file, so this is no more than that.
        let mut table = vec![0; bytes.ok_or(PackError::DamagedTable)?];
        file.read_at(self.table_offset, &mut table)?;
        if Digest::of(&table) != self.table_digest {
            return Err(PackError::DamagedTable);
        }
        table.chunks_exact(ROW_BYTES as usize).map(|bytes| self.row(bytes)).collect()
    }

    fn row(&self, bytes: &[u8]) -> Result<Row, PackError> {
        let number = |at| u32::from_le_bytes(array_at(bytes, at));
        let kind = BlobKind::from_code(number(48)).ok_or(PackError::DamagedTable)?;
        let form = match number(52) {
            RAW => Some(Form::raw(number(44))).filter(|form| form.stored_len() == number(40)),
            ZSTD if self.version == VERSION && kind == BlobKind::Chunk => Form::zstd(number(40), number(44)),
            _ => None,
        };
        let row = Row {
            digest: Digest(array_at(bytes, 0)),
            offset: u64::from_le_bytes(array_at(bytes, 32)),
            form: form.ok_or(PackError::DamagedTable)?,
            kind,
        };
        let end = row.offset.checked_add(u64::from(row.form.stored_len()));
        if end.is_some_and(|end| end <= self.table_offset) { Ok(row) } else { Err(PackError::DamagedTable) }
    }
}

/// The bytes of one field.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|byte| bytes[at + byte])
}

/// A pack being written.
pub(crate) struct PackWriter {
    pub(crate) pack: PackId,
    pub(crate) file: Arc<dyn PackFile>,
    /// Where the next blob goes.
    pub(crate) end: u64,
    pub(crate) rows: Vec<Row>,
}

impl PackWriter {
    pub(crate) fn begin(pack: PackId, file: Arc<dyn PackFile>) -> io::Result<Self> {
        file.append(&HEADER)?;
        Ok(Self { pack, file, end: HEADER.len() as u64, rows: Vec::new() })
    }

    /// Append blobs that lie back to back in `bytes`. Their `rows` carry their final offsets.
    pub(crate) fn append(&mut self, bytes: &[u8], rows: &[Row]) -> io::Result<()> {
        self.file.append(bytes)?;
        self.end += bytes.len() as u64;
        self.rows.extend_from_slice(rows);
        Ok(())
    }

    /// Make the pack whole and durable. Answers with its length.
    pub(crate) async fn seal(self) -> io::Result<Sealed> {
        let Self { pack, file, end, rows } = self;
        let mut hasher = blake3::Hasher::new();
        let mut table = Vec::with_capacity(rows.len().min(ROWS_PER_APPEND) * ROW_BYTES as usize);
        for rows in rows.chunks(ROWS_PER_APPEND) {
            table.clear();
            for row in rows {
                table.extend_from_slice(&row.digest.0);
                table.extend_from_slice(&row.offset.to_le_bytes());
                let form = if row.form.is_zstd() { ZSTD } else { RAW };
                for number in [row.form.stored_len(), row.form.plain_len(), row.kind.code(), form] {
                    table.extend_from_slice(&number.to_le_bytes());
                }
            }
            hasher.update(&table);
            file.append(&table)?;
        }
        file.sync().await?;
        let mut trailer = Vec::with_capacity(TRAILER_BYTES as usize);
        trailer.extend_from_slice(&end.to_le_bytes());
        trailer.extend_from_slice(&(rows.len() as u64).to_le_bytes());
        trailer.extend_from_slice(hasher.finalize().as_bytes());
        let checksum = blake3::hash(&trailer);
        trailer.extend_from_slice(&checksum.as_bytes()[..8]);
        trailer.extend_from_slice(&TRAILER_MAGIC);
        trailer.push(VERSION);
        file.append(&trailer)?;
        file.sync().await?;
        let bytes = end + rows.len() as u64 * ROW_BYTES + TRAILER_BYTES;
        Ok(Sealed { pack, rows, bytes })
    }
}

/// A pack that is whole and durable.
pub(crate) struct Sealed {
    pub(crate) pack: PackId,
    pub(crate) rows: Vec<Row>,
    /// Length of the file.
    pub(crate) bytes: u64,
}
