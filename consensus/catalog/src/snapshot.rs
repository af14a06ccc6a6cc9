//! The catalog as one stream of bytes, for a replica that starts from nothing.
//!
//! Only what cannot be derived is in it: image records, tombstones, claims, join tokens, marks and pins. Indexes, names and uploads
//! are rebuilt on the way in, so a snapshot is a fifth of the catalog's size and survives a change
//! of index layout.
//!
//! ```text
//! "PGCATALOG" version:u8   ( kind:u8 length:u32le postcard )*   0 count:u64le blake3:[u8; 32]
//! ```
//!
//! The digest covers everything before it. [`restore`] hands batches out before it has read the digest, so
//! callers that cannot write them aside [`check`] the whole first.

use std::collections::BTreeSet;
use std::io;

use crate::image::{Image, ImageId, ManifestRoot, NodeId, Timestamp};
use crate::index;
use crate::keyspace::{Batch, Fault, Read};
use crate::memory::MemoryKeyspace;
use crate::node::{JoinToken, TokenDigest};
use crate::overlay::Overlay;
use crate::table;

const MAGIC: &[u8; 9] = b"PGCATALOG";
/// Version 1 had no claims and no tokens, version 2 no marks and no pins; both are still read.
const VERSION: u8 = 3;
const VERSION_MIN: u8 = 1;
const END: u8 = 0;
const IMAGE: u8 = 1;
const TOMBSTONE: u8 = 2;
const CLAIM: u8 = 3;
const TOKEN: u8 = 4;
const MARK: u8 = 5;
const PINS: u8 = 6;
const PIN_CHANGES: u8 = 7;

/// Longest record believed. An image has at most a few hundred properties of 64 KiB; beyond this
/// the length itself is damaged, and allocating it would be the attack.
const RECORD_BYTES_MAX: u32 = 64 << 20;

/// Records handed to `restore`'s caller at a time, to bound memory.
const BATCH_RECORDS: u64 = 1_000;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It could not be read or written.
    #[error("snapshot: {0}")]
    Io(#[from] io::Error),
    /// It was written by a newer release.
    #[error("snapshot version {0} is not known to this release")]
    UnknownVersion(u8),
    /// It is not a snapshot, or not as it was written.
    #[error("snapshot is damaged")]
    Damaged,
    /// The catalog to be written down could not be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Write the catalog that `read` holds.
pub fn write(read: &dyn Read, out: &mut dyn io::Write) -> Result<(), SnapshotError> {
    let mut out = Hashing { inner: out, hasher: blake3::Hasher::new() };
    out.push(MAGIC)?;
    out.push(&[VERSION])?;
    let mut count = 0u64;
    for image in table::images(read) {
        out.record(IMAGE, &table::encode(&image?))?;
        count += 1;
    }
    for tombstone in table::tombstones(read) {
        out.record(TOMBSTONE, &table::encode(&tombstone?))?;
        count += 1;
    }
    for claim in table::claims(read) {
        out.record(CLAIM, &table::encode(&claim?))?;
        count += 1;
    }
    for token in table::tokens(read) {
        out.record(TOKEN, &table::encode(&token?))?;
        count += 1;
    }
    for mark in table::marks(read) {
        out.record(MARK, &table::encode(&mark?))?;
        count += 1;
    }
    for pins in table::all_pins(read) {
        out.record(PINS, &table::encode(&pins?))?;
        count += 1;
    }
    let changes = table::pin_changes(read)?;
    if changes > 0 {
        out.record(PIN_CHANGES, &table::encode(&changes))?;
        count += 1;
    }
    out.push(&[END])?;
    out.push(&count.to_le_bytes())?;
    let digest = out.hasher.finalize();
    out.inner.write_all(digest.as_bytes())?;
    Ok(())
}

/// Read a snapshot back as batches for an empty keyspace.
///
/// The batches may be believed only if this returns `Ok`, which it does for whatever [`check`] accepts.
pub fn restore(
    input: &mut dyn io::Read,
    sink: &mut dyn FnMut(Batch) -> Result<(), Fault>,
) -> Result<(), SnapshotError> {
    // Records of one snapshot do not depend on each other, so each batch starts from nothing.
    let nothing = MemoryKeyspace::new();
    let mut overlay = Overlay::new(&nothing);
    let mut count = 0u64;
    read_records(input, &mut |record| {
        match record {
            Record::Image(image) => index::replace(&mut overlay, None, Some(&image)),
            Record::Tombstone(id, at) => table::put_tombstone(&mut overlay, &id, at),
            Record::Claim(id, root) => table::put_claim(&mut overlay, &id, &root),
            Record::Token(digest, token) => table::put_token(&mut overlay, &digest, &token),
            Record::Mark(node, since) => table::put_mark(&mut overlay, node, since),
            Record::Pins(id, pins) => table::put_pins(&mut overlay, &id, &pins),
            Record::PinChanges(changes) => table::put_pin_changes(&mut overlay, changes),
        }
        count += 1;
        if count.is_multiple_of(BATCH_RECORDS) {
            sink(std::mem::replace(&mut overlay, Overlay::new(&nothing)).into_batch())?;
        }
        Ok(())
    })?;
    sink(overlay.into_batch())?;
    Ok(())
}

/// Whether this release can read all of a snapshot back, before anything is given up for it.
pub fn check(input: &mut dyn io::Read) -> Result<(), SnapshotError> {
    read_records(input, &mut |_| Ok(()))
}

enum Record {
    Image(Box<Image>),
    Tombstone(ImageId, Timestamp),
    Claim(ImageId, ManifestRoot),
    Token(TokenDigest, JoinToken),
    Mark(NodeId, Timestamp),
    Pins(ImageId, BTreeSet<String>),
    PinChanges(u64),
}

fn read_records(
    input: &mut dyn io::Read,
    take: &mut dyn FnMut(Record) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let mut input = Checking { inner: input, hasher: blake3::Hasher::new() };
    if input.take::<9>()? != *MAGIC {
        return Err(SnapshotError::Damaged);
    }
    let [version] = input.take()?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(SnapshotError::UnknownVersion(version));
    }
    let mut count = 0u64;
    loop {
        let [kind] = input.take()?;
        let record = match kind {
            END => break,
            IMAGE => Record::Image(input.record()?),
            TOMBSTONE => input.record().map(|(id, at)| Record::Tombstone(id, at))?,
            CLAIM => input.record().map(|(id, root)| Record::Claim(id, root))?,
            TOKEN => input.record().map(|(digest, token)| Record::Token(digest, token))?,
            MARK => input.record().map(|(node, since)| Record::Mark(node, since))?,
            PINS => input.record().map(|(id, pins)| Record::Pins(id, pins))?,
            PIN_CHANGES => Record::PinChanges(input.record()?),
            _ => return Err(SnapshotError::Damaged),
        };
        take(record)?;
        count += 1;
    }
    if u64::from_le_bytes(input.take()?) != count {
        return Err(SnapshotError::Damaged);
    }
    let digest = input.hasher.finalize();
    if input.take::<32>()? != *digest.as_bytes() {
        return Err(SnapshotError::Damaged);
    }
    Ok(())
}

struct Hashing<'a> {
    inner: &'a mut dyn io::Write,
    hasher: blake3::Hasher,
}

impl Hashing<'_> {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }

    fn record(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.push(&[kind])?;
        self.push(&length.to_le_bytes())?;
        self.push(body)
    }
}

struct Checking<'a> {
    inner: &'a mut dyn io::Read,
    hasher: blake3::Hasher,
}

impl Checking<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.inner.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                SnapshotError::Damaged
            } else {
                SnapshotError::Io(error)
            }
        })?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn record<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, SnapshotError> {
        let length = u32::from_le_bytes(self.take()?);
        if length > RECORD_BYTES_MAX {
            return Err(SnapshotError::Damaged);
        }
        let mut body = vec![0; length as usize];
        self.fill(&mut body)?;
        table::decode("snapshot record", Vec::new(), &body).map_err(|_| SnapshotError::Damaged)
    }
}
