//! Packs as files of one directory.
//!
//! Anything in the directory that is not named like a pack is none of ours and is left alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use peerglass_catalog::keyspace::BoxFuture;
use rustix::fs::StatVfs;

use super::{PackDisk, PackFile, PackId};

/// Most bytes of the disk that packs leave free for records.
///
/// A node whose log cannot be written must stop, and one that cannot start cannot delete. So image
/// bytes are refused while there is still room for the records of deleting some.
const RESERVE_BYTES_MAX: u64 = 256 << 20;

/// The reserve of a small disk, as a part of its size: one eighth.
const RESERVE_PART: u64 = 8;

/// How much of the reserve may be used to rewrite a pack, which gives back more than it takes: a half.
const SPARE_PART: u64 = 2;

/// A directory of packs.
#[derive(Debug)]
pub struct DirectoryPacks {
    path: PathBuf,
}

impl DirectoryPacks {
    /// The packs in `path`, which is created, readable by its owner only, if it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned() })
    }

    fn file(&self, pack: PackId) -> PathBuf {
        self.path.join(pack.to_string())
    }

    fn create_keeping(&self, pack: PackId, kept: Kept) -> io::Result<Arc<dyn PackFile>> {
        let file =
            OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(self.file(pack))?;
        Ok(Arc::new(RealFile { file: Arc::new(file), kept }))
    }
}

impl PackDisk for DirectoryPacks {
    fn create(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        self.create_keeping(pack, Kept::Reserve)
    }

    fn create_smaller(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        self.create_keeping(pack, Kept::PartOfIt)
    }

    fn open(&self, pack: PackId) -> io::Result<Arc<dyn PackFile>> {
        let file = Arc::new(File::open(self.file(pack))?);
        Ok(Arc::new(RealFile { file, kept: Kept::Reserve }))
    }

    fn list(&self) -> io::Result<Vec<(PackId, u64)>> {
        let mut packs = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".pack"));
            let number = number.filter(|digits| digits.len() == 16);
            if let Some(number) = number.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
                packs.push((PackId(number), entry.metadata()?.len()));
            }
        }
        packs.sort_unstable();
        Ok(packs)
    }

    fn remove(&self, pack: PackId) -> io::Result<()> {
        match fs::remove_file(self.file(pack)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn room(&self) -> io::Result<u64> {
        Ok(Space::of(&rustix::fs::statvfs(&self.path)?).room(Kept::PartOfIt))
    }

    fn sync_directory(&self) -> BoxFuture<'static, io::Result<()>> {
        let path = self.path.clone();
        off_the_runtime(move || File::open(path)?.sync_all())
    }
}

struct RealFile {
    file: Arc<File>,
    kept: Kept,
}

impl RealFile {
    /// Refuse to write into the part of the disk that is kept for records.
    fn check_room(&self, bytes: usize) -> io::Result<()> {
        if Space::of(&rustix::fs::fstatvfs(&*self.file)?).room(self.kept) < bytes as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl PackFile for RealFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.check_room(bytes.len())?;
        (&*self.file).write_all(bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.file);
        off_the_runtime(move || file.sync_data())
    }
}

/// How much of the disk a pack must leave free.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Reserve,
    PartOfIt,
}

/// Bytes of a disk.
struct Space {
    size: u64,
    free: u64,
}

impl Space {
    fn of(disk: &StatVfs) -> Self {
        Self {
            size: disk.f_blocks.saturating_mul(disk.f_frsize),
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
        }
    }

    fn reserve(&self) -> u64 {
        (self.size / RESERVE_PART).min(RESERVE_BYTES_MAX)
    }

    /// Bytes that fit without touching what is kept.
    fn room(&self, kept: Kept) -> u64 {
        let kept = match kept {
            Kept::Reserve => self.reserve(),
            Kept::PartOfIt => self.reserve() - self.reserve() / SPARE_PART,
        };
        self.free.saturating_sub(kept)
    }
}

/// A sync takes as long as the disk likes, and the workers of the runtime serve clients meanwhile.
///
/// It starts when it is called, not when it is first polled, so that a background sync makes
/// progress while its upload waits for the client.
fn off_the_runtime(
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> BoxFuture<'static, io::Result<()>> {
    #[allow(clippy::disallowed_methods, reason = "this is the real disk, which a simulation replaces")]
    let done = tokio::task::spawn_blocking(work);
    Box::pin(async move { done.await.map_err(io::Error::other)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F-D8: what is left is enough for records, on a small disk and on a large one.
    #[test]
    fn packs_leave_room_for_records() {
        const MIB: u64 = 1 << 20;
        let room = |size, free| Space { size, free }.room(Kept::Reserve);
        assert_eq!(room(80 * MIB, 11 * MIB), MIB);
        assert_eq!(room(80 * MIB, 9 * MIB), 0);
        assert_eq!(room(1 << 40, 257 * MIB), MIB);
        assert_eq!(room(u64::MAX, u64::MAX), u64::MAX - 256 * MIB);
        let smaller = |size, free| Space { size, free }.room(Kept::PartOfIt);
        assert_eq!(smaller(80 * MIB, 10 * MIB), 5 * MIB, "which gives back more");
        assert_eq!(smaller(1 << 40, 256 * MIB), 128 * MIB);
    }
}
