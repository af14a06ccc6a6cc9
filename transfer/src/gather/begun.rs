//! A pack that was begun, which goes when nobody needs it any more, unless it was kept.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use peerglass_catalog::keyspace::Fault;

use crate::disk::{PackFile, PackId};
use crate::pack::{PackWriter, Sealed};
use crate::store::Store;

/// Numbers tried for a new pack before giving up: only packs that came back after a power cut, whose
/// removal was not durable yet, can be in the way.
const NUMBERS_TRIED: usize = 1024;

/// Removes the pack with the last share, unless it was kept.
pub(crate) struct Begun {
    store: Store,
    pack: PackId,
    kept: AtomicBool,
}

impl Begun {
    /// Begin a pack.
    pub(crate) fn new(store: &Store) -> io::Result<(Arc<Self>, PackWriter)> {
        Self::by(store, |pack| store.packs.create(pack))
    }

    /// Begin a pack that takes the place of a larger one.
    pub(crate) fn smaller(store: &Store) -> io::Result<(Arc<Self>, PackWriter)> {
        Self::by(store, |pack| store.packs.create_smaller(pack))
    }

    fn by(
        store: &Store,
        create: impl Fn(PackId) -> io::Result<Arc<dyn PackFile>>,
    ) -> io::Result<(Arc<Self>, PackWriter)> {
        for _ in 0..NUMBERS_TRIED {
            let pack = store.ledger.begin_pack().map_err(|fault| match fault {
                Fault::Io(error) => error,
                damaged @ Fault::Damaged { .. } => io::Error::other(damaged),
            })?;
            match create(pack) {
                Ok(file) => {
                    let begun = Self { store: store.clone(), pack, kept: AtomicBool::new(false) };
                    return Ok((Arc::new(begun), PackWriter::begin(pack, file)?));
                }
                Err(error) => {
                    give_up(store, pack);
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Enter the pack, which is sealed now, into the index. From the first row on it is reclaim's business.
    pub(crate) fn enter(&self, sealed: &Sealed, moved_from: Option<PackId>) -> Result<(), Fault> {
        if let Some(old) = moved_from {
            self.store.ledger.pass_checkpoint_on(old, sealed.pack)?;
        }
        self.store.ledger.begin_record(sealed)?;
        self.kept.store(true, Ordering::Relaxed);
        self.store.ledger.adopt(sealed, moved_from)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let pack = self.pack;
        if self.kept.load(Ordering::Relaxed) {
            return self.store.ledger.end_pack(pack);
        }
        match self.store.packs.remove(pack) {
            Ok(()) => give_up(&self.store, pack),
            Err(error) => {
                // Nothing is in the index, so reclaim will find the file to be a stray.
                tracing::warn!(%pack, %error, "a pack that was not kept could not be removed");
                self.store.ledger.end_pack(pack);
            }
        }
    }
}

/// There is no file of that number, or it is not ours.
fn give_up(store: &Store, pack: PackId) {
    if let Err(fault) = store.ledger.forget_begun(pack) {
        // The next start does it.
        tracing::warn!(%pack, %fault, "the index still says that a pack was begun which is gone");
    }
    store.ledger.end_pack(pack);
}
