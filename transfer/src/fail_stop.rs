//! An index that is not trusted again after its first failed sync.
//!
//! A keyspace promises nothing about unsynced batches after a failed sync, and a later sync that
//! succeeds proves nothing: the pages in between may be gone. Reclaim unlinks packs on the strength
//! of a sync, so it must never rely on such a one. The index therefore refuses everything from then
//! on, and the node ends; the next start reads what is really there.

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

    /// Becomes true at the first failed sync, and stays so.
    pub(crate) fn failed(&self) -> watch::Receiver<bool> {
        self.failed.subscribe()
    }

    fn check(&self) -> Result<(), Fault> {
        if *self.failed.borrow() {
            Err(Fault::Io(io::Error::other("the chunk index failed to sync before and is not trusted again")))
        } else {
            Ok(())
        }
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
        self.inner.write(batch)
    }

    fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            self.check()?;
            let synced = self.inner.sync().await;
            if synced.is_err() {
                self.failed.send_replace(true);
            }
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

    #[derive(Default)]
    struct FailsOnce {
        map: MemoryKeyspace,
        failed: AtomicBool,
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
            self.map.write(batch)
        }
        fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
            let fails = !self.failed.swap(true, Ordering::SeqCst);
            let result = if fails { Err(Fault::Io(io::Error::other("no"))) } else { Ok(()) };
            Box::pin(std::future::ready(result))
        }
    }

    /// F-D5, I-S3: the disk says yes the second time; nobody believes it.
    #[test]
    fn a_sync_after_a_failed_one_is_refused() {
        let index = FailStop::new(Arc::new(FailsOnce::default()));
        let failed = index.failed();
        assert!(!*failed.borrow());
        for _ in 0..3 {
            assert!(index.sync().now_or_never().is_some_and(|synced| synced.is_err()));
            assert!(index.write(Batch::default()).is_err());
            assert!(*failed.borrow());
        }
    }
}
