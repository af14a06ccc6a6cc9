//! An index that is not trusted again after its first failure.
//!
//! A keyspace promises nothing about unsynced batches after a failed sync, and a later sync that
//! succeeds proves nothing: the pages in between may be gone. Reclaim unlinks packs on the strength
//! of a sync, so it must never rely on such a one. The index therefore refuses everything from then
//! on, and the node ends; the next start reads what is really there. A failed write is no better: the
//! database takes no other after it. Only a full disk takes nothing back, and may have room again later.

use std::io;
use std::sync::Arc;

use peerglass_catalog::keyspace::{Batch, BoxFuture, Direction, Entries, Fault, KeyRange, Keyspace, Read};
use tokio::sync::watch;

/// See the module.
pub(crate) struct FailStop {
    inner: Arc<dyn Keyspace>,
    failed: watch::Sender<bool>,
}

impl FailStop {
    pub(crate) fn new(inner: Arc<dyn Keyspace>) -> Self {
        Self { inner, failed: watch::Sender::new(false) }
    }

    /// Becomes true at the first failure, and stays so.
    pub(crate) fn failed(&self) -> watch::Receiver<bool> {
        self.failed.subscribe()
    }

    fn check(&self) -> Result<(), Fault> {
        if *self.failed.borrow() {
            Err(Fault::Io(io::Error::other("the chunk index failed before and is not trusted again")))
        } else {
            Ok(())
        }
    }

    /// Remember how a step that went wrong did, if it was the last.
    fn heed(&self, done: Result<(), Fault>) -> Result<(), Fault> {
        match &done {
            Ok(()) => {}
            Err(Fault::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {}
            Err(fault) => {
                if !self.failed.send_replace(true) {
                    tracing::error!(%fault, "the chunk index failed");
                }
            }
        }
        done
    }
}

impl Read for FailStop {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
        self.inner.scan(range, direction)
    }
}

impl Keyspace for FailStop {
    fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
        self.inner.view(look);
    }

    fn write(&self, batch: Batch) -> Result<(), Fault> {
        self.check()?;
        self.heed(self.inner.write(batch))
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            self.check()?;
            let synced = self.heed(self.inner.sync().await);
            // Another sync may have failed while this one ran, and taken its batches with it.
            self.check().and(synced)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt;
    use peerglass_catalog::MemoryKeyspace;

    use super::*;

    struct FailsOnce {
        map: MemoryKeyspace,
        kind: io::ErrorKind,
        failed: AtomicBool,
    }

    impl FailsOnce {
        fn new(kind: io::ErrorKind) -> Arc<Self> {
            Arc::new(Self { map: MemoryKeyspace::new(), kind, failed: AtomicBool::new(false) })
        }

        fn step(&self) -> Result<(), Fault> {
            let fails = !self.failed.swap(true, Ordering::SeqCst);
            if fails { Err(Fault::Io(self.kind.into())) } else { Ok(()) }
        }
    }

    impl Read for FailsOnce {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
            self.map.get(key)
        }
        fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
            self.map.scan(range, direction)
        }
    }

    impl Keyspace for FailsOnce {
        fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
            self.map.view(look);
        }
        fn write(&self, batch: Batch) -> Result<(), Fault> {
            self.step()?;
            self.map.write(batch)
        }
        fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
            Box::pin(std::future::ready(self.step()))
        }
    }

    /// F-D5, I-S3: the disk says yes the second time; nobody believes it.
    #[test]
    fn a_sync_after_a_failed_one_is_refused() {
        let index = FailStop::new(FailsOnce::new(io::ErrorKind::Other));
        let failed = index.failed();
        assert!(!*failed.borrow());
        for _ in 0..3 {
            assert!(index.sync().now_or_never().is_some_and(|synced| synced.is_err()));
            assert!(index.write(Batch::default()).is_err());
            assert!(*failed.borrow());
        }
    }

    /// F-D8: a database that may write again after this is not given up, and one that never does is: a node
    /// that went on would refuse every upload until somebody noticed.
    #[test]
    fn only_a_full_disk_may_be_written_again() {
        for (kind, is_final) in [
            (io::ErrorKind::StorageFull, false),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::Other, true),
        ] {
            for syncs in [false, true] {
                let index = FailStop::new(FailsOnce::new(kind));
                let step = || match syncs {
                    true => index.sync().now_or_never().unwrap(),
                    false => index.write(Batch::default()),
                };
                assert!(step().is_err());
                assert_eq!(
                    (*index.failed().borrow(), step().is_err()),
                    (is_final, is_final),
                    "{kind:?} {syncs}"
                );
            }
        }
    }
}
