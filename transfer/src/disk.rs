//! Where packs are kept: named append-only files with explicit durability.
//!
//! [`PackDisk`] has two users: [`DirectoryPacks`], a real directory, and the simulations' disk, which
//! loses, tears and rots whatever was not synced. [`MemoryPacks`] is for tests. `contract`, with the
//! feature `testing`, is the suite every implementation must pass.

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod directory;
mod memory;

use std::fmt;
use std::io;
use std::sync::Arc;

use peerglass_catalog::keyspace::{BoxFuture, Keyspace};
use serde::{Deserialize, Serialize};

pub use directory::DirectoryPacks;
pub use memory::MemoryPacks;

/// What transfer keeps its bytes on.
#[derive(Clone)]
pub struct TransferDisk {
    /// The bytes.
    pub packs: Arc<dyn PackDisk>,
    /// Where in the packs each blob is. It can be rebuilt from them.
    pub index: Arc<dyn Keyspace>,
}

/// The number that names a pack. Numbers only grow, so the order of packs is the order they began in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackId(pub u64);

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.pack", self.0)
    }
}

/// A flat collection of packs.
///
/// # Contract
///
/// Callers rely on these promises; a simulated disk breaks everything else.
///
/// * What a plain call did is visible to every later call at once. It survives a power cut only
///   after the sync named below; until then any part of it may be there or not, page by page.
/// * A pack's bytes are durable once [`PackFile::sync`], started after they were appended, is `Ok`;
///   its presence or absence once [`PackDisk::sync_directory`], started after, is `Ok`.
/// * After a failed sync nothing may be assumed about the bytes. Callers give the pack up; they
///   never try again. The same of [`PackDisk::sync_directory`]: a later one that succeeds proves
///   nothing about creates and removes the failed one should have covered.
/// * An open [`PackFile`] may still be read after its pack was removed.
/// * A full disk is [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`].
pub trait PackDisk: Send + Sync + 'static {
    /// Begin an empty pack. [`io::ErrorKind::AlreadyExists`] if there is one of that number.
    fn create(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>>;

    /// Begin an empty pack that takes the place of a larger one: where [`create`](Self::create) leaves some of
    /// the disk free, this may use a part of it, because it gives back more.
    fn create_smaller(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        self.create(pack)
    }

    /// Open a pack to read. [`io::ErrorKind::NotFound`] if there is none.
    fn open(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>>;

    /// Every pack and its length in bytes, in order.
    fn list(&self) -> io::Result<Vec<(PackId, u64)>>;

    /// Remove a pack. Removing one that is gone succeeds.
    fn remove(&self, pack: PackId) -> io::Result<()>;

    /// Bytes that packs of [`create_smaller`](Self::create_smaller) may still take, as far as the disk can tell:
    /// what needs more is not begun.
    fn room(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// Make every create and remove before this call survive a power cut.
    fn sync_directory(&self) -> BoxFuture<'static, io::Result<()>>;
}

/// One pack. One writer appends; any number of readers read.
pub trait PackFile: Send + Sync + 'static {
    /// Append all of `bytes`, or fail and leave an unknown part of them behind.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Fill `buffer` from `offset` on. [`io::ErrorKind::UnexpectedEof`] past the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Bytes it holds.
    fn len(&self) -> io::Result<u64>;

    /// Whether it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Make every byte appended before this call survive a power cut.
    fn sync(&self) -> BoxFuture<'static, io::Result<()>>;
}

/// Whether `error` says that there is no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packs_in_memory_and_in_a_directory_keep_the_contract() {
        contract::check(Arc::new(MemoryPacks::new())).await;
        let folder = tempfile::tempdir().unwrap();
        contract::check(Arc::new(DirectoryPacks::open(folder.path()).unwrap())).await;
    }
}
