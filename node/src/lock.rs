//! One node at a time per data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held as long as this process uses the directory. The kernel releases it when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another node has it.
    #[error("data directory {} is in use by another node (process {pid})", dir.display())]
    Held {
        /// Which directory.
        dir: PathBuf,
        /// The other process, as it wrote itself down.
        pid: String,
    },
    /// The lock file cannot be used.
    #[error("cannot lock data directory {}: {source}", dir.display())]
    Io {
        /// Which directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl DataDirLock {
    /// Take the directory, or say who has it.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { dir: dir.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("LOCK"))
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // The pid is a courtesy; without it the refusal still stands.
                let _ = (&file).take(20).read_to_string(&mut pid);
                return Err(LockError::Held { dir: dir.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_node_is_told_who_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDirLock::take(dir.path()).unwrap();
        let refused = DataDirLock::take(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        DataDirLock::take(dir.path()).unwrap();
    }
}
