//! Packs in memory, for tests. They keep nothing across restarts, and every sync succeeds at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use peerglass_catalog::keyspace::BoxFuture;

use super::{PackDisk, PackFile, PackId};

/// Packs that live as long as the value.
#[derive(Debug, Default)]
pub struct MemoryPacks {
    packs: Mutex<BTreeMap<PackId, Arc<MemoryFile>>>,
}

#[derive(Debug, Default)]
struct MemoryFile(RwLock<Vec<u8>>);

impl MemoryPacks {
    /// No pack at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of what `pack` holds, if there is such a pack.
    pub fn bytes(&self, pack: PackId) -> Option<Vec<u8>> {
        let packs = self.locked();
        let file = packs.get(&pack)?;
        Some(file.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Replace what `pack` holds, as bit rot or an operator would.
    pub fn overwrite(&self, pack: PackId, bytes: Vec<u8>) {
        self.locked().insert(pack, Arc::new(MemoryFile(RwLock::new(bytes))));
    }

    // Every critical section is one step on a map or vector; a panic cannot leave it half done.
    fn locked(&self) -> MutexGuard<'_, BTreeMap<PackId, Arc<MemoryFile>>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PackDisk for MemoryPacks {
    fn create(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        let mut packs = self.locked();
        if packs.contains_key(&pack) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::default());
        packs.insert(pack, Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        let file = self.locked().get(&pack).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<(PackId, u64)>> {
        self.locked().iter().map(|(pack, file)| Ok((*pack, file.len()?))).collect()
    }

    fn remove(&self, pack: PackId) -> io::Result<()> {
        self.locked().remove(&pack);
        Ok(())
    }

    fn sync_directory(&self) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl PackFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
