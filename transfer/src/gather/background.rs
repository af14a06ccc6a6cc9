//! Making durable what is gathered while more is: syncs of an upload's pack, checkpoints of a pull.

use std::future::pending;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use peerglass_catalog::keyspace::BoxFuture;

use super::{Gather, KeepError, Progress, Unsealed};
use crate::transfer::Inner;

/// Written bytes after which an upload's pack is synced, so that the last sync is short.
const SYNC_EVERY_BYTES: u64 = 64 << 20;

/// One step at a time that goes on beside.
#[derive(Default)]
struct Beside(Option<BoxFuture<'static, Result<(), KeepError>>>);

impl Beside {
    fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the step has failed. `cx` is woken when there may be news.
    fn check(&mut self, cx: &mut Context<'_>) -> Result<(), KeepError> {
        if let Some(going) = &mut self.0
            && let Poll::Ready(done) = going.poll_unpin(cx)
        {
            self.0 = None;
            done?;
        }
        Ok(())
    }

    /// Wait for the step. May be dropped.
    async fn finish(&mut self) -> Result<(), KeepError> {
        if let Some(going) = &mut self.0 {
            let done = going.await;
            self.0 = None;
            done?;
        }
        Ok(())
    }
}

/// Syncs of a pack that go on while more of it is written.
#[derive(Default)]
pub(crate) struct BackgroundSync {
    going: Beside,
    /// Up to where the pack was written when the last one began.
    synced: u64,
}

impl BackgroundSync {
    /// Begin one if enough was written since the last.
    pub(crate) fn begin_if_due(&mut self, progress: &Progress) {
        let written = progress.written();
        if self.going.is_idle() && written >= self.synced.saturating_add(SYNC_EVERY_BYTES) {
            let sync = progress.begin_sync();
            self.going = Beside(sync.map(|sync| Box::pin(async { Ok(sync.await?) }) as _));
            self.synced = written;
        }
    }

    /// Whether the one that goes on has failed. `cx` is woken when there may be news.
    pub(crate) fn check(&mut self, cx: &mut Context<'_>) -> Result<(), KeepError> {
        self.going.check(cx)
    }

    /// Wait for the one that goes on.
    pub(crate) async fn finish(mut self) -> Result<(), KeepError> {
        self.going.finish().await
    }
}

/// Checkpoints: what a pull has brought survives its end, however it ends, so that the next pull goes on from there.
///
/// A pack is sealed and entered while the next one is filled. Nobody names what is in it yet; reclaim leaves
/// it alone for a while (`ledger`).
pub(crate) struct Checkpoints {
    transfer: Arc<Inner>,
    every_bytes: u64,
    going: Beside,
}

impl Checkpoints {
    /// One after each `every_bytes` that were written, or later if the one before takes longer.
    pub(crate) fn new(transfer: &Arc<Inner>, every_bytes: u64) -> Self {
        Self { transfer: Arc::clone(transfer), every_bytes, going: Beside::default() }
    }

    /// Begin one if it is due. Between two runs only.
    pub(crate) fn begin_if_due(&mut self, gather: &mut Gather) {
        if self.going.is_idle() && gather.pack_bytes() >= self.every_bytes {
            self.begin(gather);
        }
    }

    fn begin(&mut self, gather: &mut Gather) {
        if let Some(unsealed) = gather.end_pack() {
            self.going = Beside(Some(Box::pin(keep(Arc::clone(&self.transfer), unsealed))));
        }
    }

    /// Whether the one that goes on has failed. `cx` is woken when there may be news.
    pub(crate) fn check(&mut self, cx: &mut Context<'_>) -> Result<(), KeepError> {
        self.going.check(cx)
    }

    /// Wait for the one that goes on.
    pub(crate) async fn finish(&mut self) -> Result<(), KeepError> {
        self.going.finish().await
    }

    /// Let the one that goes on go on, and wait for its end. Never ready if there is none. May be dropped.
    pub(crate) async fn go_on(&mut self) -> Result<(), KeepError> {
        if self.going.is_idle() {
            return pending().await;
        }
        self.going.finish().await
    }

    /// Make one of all that is left.
    pub(crate) async fn finish_with(&mut self, mut gather: Gather) -> Result<(), KeepError> {
        self.finish().await?;
        self.begin(&mut gather);
        self.finish().await
    }
}

/// Make a pack durable and enter it, without anything that names what is in it.
async fn keep(transfer: Arc<Inner>, unsealed: Unsealed) -> Result<(), KeepError> {
    let Unsealed { begun, writer, writing } = unsealed;
    let sealed = writer.seal().await?;
    transfer.directory.settle(&transfer, sealed.pack).await?;
    let ledger = Arc::clone(&transfer.store.ledger);
    let enter = move || {
        let _writing = writing;
        // First: a pack that is entered and not noted would be swept.
        ledger.note_checkpoint(sealed.pack)?;
        begun.enter(&sealed, None)?;
        Ok::<_, KeepError>(ledger.complete(sealed.pack)?)
    };
    transfer.workers.run(enter).await.map_err(KeepError::Disk)??;
    Ok(transfer.store.ledger.index.sync().await?)
}
