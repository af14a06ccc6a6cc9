//! What the index holds, and how it is encoded in the ordered map.
//!
//! ```text
//! B digest  where a blob is, and how many manifests or pages name it
//! Z digest  that nobody names it: what reclaim goes through
//! P pack    how much of a pack is live
//! W pack    that a pack was begun and is not entered yet
//! C pack    that a pack holds what a pull may need that goes on, though nobody names it
//! N         the first number that no pack ever had
//! M root    that this node holds a manifest
//! D root    that a manifest is being let go, and how far
//! U root    the number of its last use that was noted
//! V         the first number that no use ever had
//! S         the last manifest that was scrubbed
//! ```
//!
//! References are counted in two steps so that equal pages cost one: a held root counts for each of
//! its pages, and a page that anyone counts for counts for each of its chunks.

mod value;

use peerglass_catalog::keyspace::{Batch, Direction, Fault, KeyRange, Keyspace};
use peerglass_catalog::{Digest, ManifestRoot};
use serde::{Deserialize, Serialize};

use crate::disk::PackId;
use crate::form::Form;
use crate::pack::BlobKind;
use value::{Value, decode, encode};

const BLOBS: u8 = b'B';
const ZEROS: u8 = b'Z';
const PACKS: u8 = b'P';
const BEGUN: u8 = b'W';
const CHECKPOINTS: u8 = b'C';
const NEXT_PACK: u8 = b'N';
const HELD: u8 = b'M';
const DROPS: u8 = b'D';
const USES: u8 = b'U';
const NEXT_USE: u8 = b'V';
const SCRUBBED: u8 = b'S';

/// One blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    /// `None` if the pack that held it is lost.
    pub(crate) place: Option<Place>,
    /// In what form it is there.
    pub(crate) form: Form,
    pub(crate) kind: BlobKind,
    /// How many roots (of a page), pages (of a chunk) or held manifests (of a root) name it.
    pub(crate) refs: u64,
    /// Read once and found wrong: the bytes are not to be relied on any more.
    pub(crate) damaged: bool,
}

/// Where a blob's bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) pack: PackId,
    pub(crate) offset: u64,
}

impl Blob {
    /// Where it is, if its bytes are there and not known to be wrong.
    pub(crate) fn sound_place(&self) -> Option<Place> {
        self.place.filter(|_| !self.damaged)
    }
}

/// One sealed pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackRecord {
    /// How many rows of its table are in the index.
    pub(crate) rows_indexed: u64,
    /// Set with the last step; until then opening the node indexes it again.
    pub(crate) complete: bool,
    /// Length of the file.
    pub(crate) file_bytes: u64,
    /// Blobs the file holds.
    pub(crate) blobs: u64,
    /// Blobs whose place is in this pack.
    pub(crate) live_blobs: u64,
    /// Their stored bytes.
    pub(crate) live_bytes: u64,
}

/// How far the references of a manifest are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Held {
    /// Pages before this one are counted.
    UpTo(u64),
    /// All.
    Whole,
}

/// A batch in the making that reads what it has already changed.
pub(crate) struct Working<'a> {
    base: &'a dyn Keyspace,
    batch: Batch,
}

impl<'a> Working<'a> {
    pub(crate) fn new(base: &'a dyn Keyspace) -> Self {
        Self { base, batch: Batch::default() }
    }

    /// Write all of it, atomically.
    pub(crate) fn write(self) -> Result<(), Fault> {
        if self.batch.is_empty() { Ok(()) } else { self.base.write(self.batch) }
    }

    fn get<T: Value>(&self, what: &'static str, key: Vec<u8>) -> Result<Option<T>, Fault> {
        let value = match self.batch.changes.get(&key) {
            Some(changed) => changed.clone(),
            None => self.base.get(&key)?,
        };
        value.map(|value| decode(what, &key, &value)).transpose()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Fault> {
        self.get("blob", blob_key(digest))
    }

    /// Set a blob's record and keep the list of unnamed blobs true.
    pub(crate) fn put_blob(&mut self, digest: &Digest, was: Option<&Blob>, blob: &Blob) {
        self.batch.put(blob_key(digest), encode(blob));
        let was_zero = was.is_some_and(|was| was.refs == 0);
        match (was_zero, blob.refs == 0) {
            (false, true) => self.batch.put(zero_key(digest), Vec::new()),
            (true, false) => self.batch.remove(zero_key(digest)),
            (true, true) | (false, false) => {}
        }
    }

    pub(crate) fn remove_blob(&mut self, digest: &Digest) {
        self.batch.remove(blob_key(digest));
        self.batch.remove(zero_key(digest));
    }

    pub(crate) fn pack(&self, pack: PackId) -> Result<Option<PackRecord>, Fault> {
        self.get("pack", pack_key(PACKS, pack))
    }

    pub(crate) fn put_pack(&mut self, pack: PackId, record: &PackRecord) {
        self.batch.put(pack_key(PACKS, pack), encode(record));
    }

    pub(crate) fn remove_pack(&mut self, pack: PackId) {
        self.batch.remove(pack_key(PACKS, pack));
    }

    pub(crate) fn put_begun(&mut self, pack: PackId) {
        self.batch.put(pack_key(BEGUN, pack), Vec::new());
    }

    pub(crate) fn remove_begun(&mut self, pack: PackId) {
        self.batch.remove(pack_key(BEGUN, pack));
    }

    pub(crate) fn put_checkpoint(&mut self, pack: PackId) {
        self.batch.put(pack_key(CHECKPOINTS, pack), Vec::new());
    }

    pub(crate) fn remove_checkpoint(&mut self, pack: PackId) {
        self.batch.remove(pack_key(CHECKPOINTS, pack));
    }

    pub(crate) fn put_next_pack(&mut self, number: u64) {
        self.batch.put(vec![NEXT_PACK], encode(&number));
    }

    pub(crate) fn held(&self, root: &ManifestRoot) -> Result<Option<Held>, Fault> {
        self.get("held manifest", root_key(HELD, root))
    }

    pub(crate) fn put_held(&mut self, root: &ManifestRoot, held: Held) {
        self.batch.put(root_key(HELD, root), encode(&held));
    }

    pub(crate) fn remove_held(&mut self, root: &ManifestRoot) {
        self.batch.remove(root_key(HELD, root));
    }

    pub(crate) fn put_use(&mut self, root: &ManifestRoot, number: u64) {
        self.batch.put(root_key(USES, root), encode(&number));
        self.batch.put(vec![NEXT_USE], encode(&(number + 1)));
    }

    pub(crate) fn remove_use(&mut self, root: &ManifestRoot) {
        self.batch.remove(root_key(USES, root));
    }

    /// `None`: from the beginning.
    pub(crate) fn put_scrubbed(&mut self, last: Option<&ManifestRoot>) {
        match last {
            Some(root) => self.batch.put(vec![SCRUBBED], encode(root)),
            None => self.batch.remove(vec![SCRUBBED]),
        }
    }

    pub(crate) fn dropping(&self, root: &ManifestRoot) -> Result<Option<u64>, Fault> {
        self.get("dropped manifest", root_key(DROPS, root))
    }

    pub(crate) fn put_dropping(&mut self, root: &ManifestRoot, next_page: u64) {
        self.batch.put(root_key(DROPS, root), encode(&next_page));
    }

    pub(crate) fn remove_dropping(&mut self, root: &ManifestRoot) {
        self.batch.remove(root_key(DROPS, root));
    }
}

/// The record of one blob.
pub(crate) fn blob(index: &dyn Keyspace, digest: &Digest) -> Result<Option<Blob>, Fault> {
    Working::new(index).blob(digest)
}

/// Every pack record, in order.
pub(crate) fn packs(index: &dyn Keyspace) -> Result<Vec<(PackId, PackRecord)>, Fault> {
    let entries = index.scan(KeyRange::prefix(&[PACKS]), Direction::Ascending).map(|entry| {
        let (key, value) = entry?;
        Ok((pack_at(&key)?, decode("pack", &key, &value)?))
    });
    entries.collect()
}

/// Every pack that was begun and neither entered nor given up.
pub(crate) fn begun(index: &dyn Keyspace) -> Result<Vec<PackId>, Fault> {
    let entries = index.scan(KeyRange::prefix(&[BEGUN]), Direction::Ascending);
    entries.map(|entry| pack_at(&entry?.0)).collect()
}

/// Every pack that is a checkpoint.
pub(crate) fn checkpoints(index: &dyn Keyspace) -> Result<Vec<PackId>, Fault> {
    let entries = index.scan(KeyRange::prefix(&[CHECKPOINTS]), Direction::Ascending);
    entries.map(|entry| pack_at(&entry?.0)).collect()
}

/// The first number that no pack ever had, as far as the index was told.
pub(crate) fn next_pack(index: &dyn Keyspace) -> Result<u64, Fault> {
    Ok(Working::new(index).get("next pack number", vec![NEXT_PACK])?.unwrap_or(0))
}

/// The first number that no use ever had.
pub(crate) fn next_use(index: &dyn Keyspace) -> Result<u64, Fault> {
    Ok(Working::new(index).get("next use", vec![NEXT_USE])?.unwrap_or(1))
}

/// The last manifest that was scrubbed, unless all were.
pub(crate) fn scrubbed(index: &dyn Keyspace) -> Result<Option<ManifestRoot>, Fault> {
    Working::new(index).get("last scrubbed", vec![SCRUBBED])
}

/// The number of a manifest's last use; 0 if none was noted.
pub(crate) fn last_use(index: &dyn Keyspace, root: &ManifestRoot) -> Result<u64, Fault> {
    Ok(Working::new(index).get("last use", root_key(USES, root))?.unwrap_or(0))
}

/// Up to `limit` held manifests after `after`, in order.
pub(crate) fn held_after(
    index: &dyn Keyspace,
    after: Option<&ManifestRoot>,
    limit: usize,
) -> Result<Vec<(ManifestRoot, Held)>, Fault> {
    let after = after.map(|root| root.0);
    let entries = index.scan(range_after(HELD, after.as_ref()), Direction::Ascending).take(limit);
    let entries = entries.map(|entry| {
        let (key, value) = entry?;
        Ok((ManifestRoot(digest_at(&key)?), decode("held manifest", &key, &value)?))
    });
    entries.collect()
}

/// Every held manifest that is not counted to its end.
pub(crate) fn interrupted(index: &dyn Keyspace) -> Result<Vec<ManifestRoot>, Fault> {
    let mut roots = Vec::new();
    for entry in index.scan(KeyRange::prefix(&[HELD]), Direction::Ascending) {
        let (key, value) = entry?;
        if decode::<Held>("held manifest", &key, &value)? != Held::Whole {
            roots.push(ManifestRoot(digest_at(&key)?));
        }
    }
    Ok(roots)
}

/// Every manifest that is being let go.
pub(crate) fn drops(index: &dyn Keyspace) -> Result<Vec<ManifestRoot>, Fault> {
    let entries = index.scan(KeyRange::prefix(&[DROPS]), Direction::Ascending);
    entries.map(|entry| Ok(ManifestRoot(digest_at(&entry?.0)?))).collect()
}

/// Up to `limit` blobs after `after` that nobody named when they were last counted.
pub(crate) fn zeros_after(
    index: &dyn Keyspace,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<Digest>, Fault> {
    let entries = index.scan(range_after(ZEROS, after), Direction::Ascending).take(limit);
    entries.map(|entry| digest_at(&entry?.0)).collect()
}

/// Up to `limit` blobs after `after`, in order of digest.
pub(crate) fn blobs_after(
    index: &dyn Keyspace,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<(Digest, Blob)>, Fault> {
    let entries = index.scan(range_after(BLOBS, after), Direction::Ascending).take(limit);
    let entries = entries.map(|entry| {
        let (key, value) = entry?;
        Ok((digest_at(&key)?, decode("blob", &key, &value)?))
    });
    entries.collect()
}

fn range_after(table: u8, after: Option<&Digest>) -> KeyRange {
    let mut range = KeyRange::prefix(&[table]);
    if let Some(digest) = after {
        // The key that follows is the key itself and one zero byte.
        range.from = [&[table][..], &digest.0, &[0]].concat();
    }
    range
}

fn blob_key(digest: &Digest) -> Vec<u8> {
    [&[BLOBS][..], &digest.0].concat()
}

fn zero_key(digest: &Digest) -> Vec<u8> {
    [&[ZEROS][..], &digest.0].concat()
}

fn pack_key(table: u8, pack: PackId) -> Vec<u8> {
    [&[table][..], &pack.0.to_be_bytes()].concat()
}

fn pack_at(key: &[u8]) -> Result<PackId, Fault> {
    let number = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
    let number = number.ok_or_else(|| Fault::Damaged { what: "pack number", key: key.to_vec() })?;
    Ok(PackId(u64::from_be_bytes(number)))
}

fn root_key(table: u8, root: &ManifestRoot) -> Vec<u8> {
    [&[table][..], &root.0.0].concat()
}

fn digest_at(key: &[u8]) -> Result<Digest, Fault> {
    let bytes = key.get(1..).and_then(|bytes| bytes.try_into().ok());
    bytes.map(Digest).ok_or_else(|| Fault::Damaged { what: "digest", key: key.to_vec() })
}
