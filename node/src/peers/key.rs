//! The node's key: its identity towards other nodes.
//!
//! One Ed25519 key is the libp2p peer id, signs the certificate of every connection and names the node
//! in the member list. Everything else that must survive a restart of the port is derived from it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libp2p_identity::{Keypair, ed25519};
use peerglass_catalog::PeerKey;

/// Bytes of the key file: the secret seed, and nothing else.
const SEED_BYTES: usize = 32;

/// A node's key pair.
#[derive(Clone)]
pub struct NodeKey {
    pair: ed25519::Keypair,
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or written.
    #[error("cannot use node key {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not 32 bytes.
    #[error("node key {} is damaged: it must be {SEED_BYTES} bytes", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// Whoever reads it can be this node.
    #[error("node key {} may be read by others (mode {mode:o}); run: chmod 600", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

impl NodeKey {
    /// The key whose secret is `seed`.
    pub fn from_seed(seed: [u8; SEED_BYTES]) -> Self {
        let mut seed = seed;
        let secret =
            ed25519::SecretKey::try_from_bytes(&mut seed).expect("any 32 bytes are an Ed25519 secret");
        Self { pair: secret.into() }
    }

    /// The key in the file `path`, which is written with `seed` if there is none.
    ///
    /// # Errors
    ///
    /// When the file is readable by others, has a wrong length, or the disk refuses.
    pub fn load_or_create(path: &Path, seed: [u8; SEED_BYTES]) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => Self::read(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_new(path, &seed).map_err(io)?;
                Ok(Self::from_seed(seed))
            }
            Err(error) => Err(io(error)),
        }
    }

    fn read(path: &Path, file: File) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut seed = Vec::with_capacity(SEED_BYTES + 1);
        file.take(SEED_BYTES as u64 + 1).read_to_end(&mut seed).map_err(io)?;
        let seed = seed.try_into().map_err(|_| KeyError::Damaged { path: path.to_owned() })?;
        Ok(Self::from_seed(seed))
    }

    /// The public half.
    pub fn peer_key(&self) -> PeerKey {
        PeerKey(self.pair.public().to_bytes())
    }

    pub(crate) fn libp2p(&self) -> Keypair {
        Keypair::from(self.pair.clone())
    }

    /// Secret bytes for the purpose `context`, always the same for one key.
    pub(super) fn derive(&self, context: &'static str) -> [u8; 32] {
        blake3::derive_key(context, self.pair.secret().as_ref())
    }
}

/// Write the file whole or not at all: a node whose key is cut short has lost its identity.
fn write_new(path: &Path, seed: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let part = path.with_extension("key.part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(seed)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_to_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let first = NodeKey::load_or_create(&path, [7; 32]).unwrap().peer_key();
        let again = NodeKey::load_or_create(&path, [8; 32]).unwrap().peer_key();
        assert_eq!(first, again);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            NodeKey::load_or_create(&path, [9; 32]),
            Err(KeyError::Exposed { mode: 0o640, .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, [1; 33]).unwrap();
        assert!(matches!(NodeKey::load_or_create(&path, [9; 32]), Err(KeyError::Damaged { .. })));
    }
}
