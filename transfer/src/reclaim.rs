//! Dropping bytes no image names.
//!
//! Three passes. *Let go*: every held manifest that nobody needs is asked about, and if no image names
//! it, its pages and chunks are counted down. *Sweep*: blobs that nothing counts for leave the index.
//! *Pack*: packs that hold only such blobs are unlinked; those that hold some are rewritten without
//! them.
//!
//! # What it promises
//!
//! * A manifest is let go only if it was not guarded when it was asked about, is not named, and was
//!   not guarded since. A blob is swept only if no upload relies on its pack.
//! * The index no longer refers to a pack, durably, before the pack is unlinked.
//! * What a pull brought that did not end well stays for [`resume_within`](crate::TransferSettings::resume_within).
//! * With no upload in flight and no such pull, afterwards every byte in the packs is a live blob or the overhead of
//!   a pack that has one. Two kinds of packs keep what is dead in them: those whose live blobs find no
//!   room elsewhere, until they do, and those that do not read back.
//! * Neither of these, nor a manifest that does not read back or cannot be asked about, keeps anything
//!   else. A full disk gives back what is wholly dead, and what that makes room to rewrite. Only a disk
//!   that fails ends it early.

mod evict;
mod rewrite;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use peerglass_catalog::ManifestRoot;
use peerglass_catalog::keyspace::Fault;

use crate::error::{DiskFailure, DownloadError, ReclaimError};
use crate::index::{self, Held};
use crate::recover;
use crate::store::{BlobReader, Store};
use crate::transfer::Inner;

pub(crate) use evict::run as evict;
pub use evict::{Evicted, StateUnknown};

/// Manifests asked about at once, so that whoever answers needs to make sure only once that it knows.
const ROOTS_PER_STEP: usize = 1024;

/// What a reclaim did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Manifests let go.
    pub manifests: u64,
    /// Blobs that left the index.
    pub chunks: u64,
    /// Packs unlinked, rewritten ones included.
    pub packs: u64,
    /// Bytes that packs take less than before.
    pub bytes: u64,
    /// Packs that keep what is dead in them because there was no room to rewrite them: worth another run
    /// even if nothing more is let go.
    pub no_room: u64,
    /// Manifests that nobody names, and that were needed meanwhile: worth another run.
    pub needed: u64,
    /// In how long the next of the packs expires that are kept for pulls that may go on: worth another run then.
    pub expires_in: Option<Duration>,
}

/// See [`Transfer::reclaim`](crate::Transfer::reclaim).
pub(crate) async fn run<F, Fut, E>(transfer: &Arc<Inner>, are_named: F) -> Result<Reclaimed, ReclaimError<E>>
where
    F: Fn(Vec<ManifestRoot>) -> Fut,
    Fut: Future<Output = Result<Vec<bool>, E>>,
{
    let _alone = transfer.reclaiming.lock().await;
    let ledger = &transfer.store.ledger;
    let before = ledger.totals().file_bytes;
    let expires_in = ledger.expire_checkpoints(transfer.settings.resume_within).map_err(DiskFailure::from)?;
    let mut reclaimed = Reclaimed { expires_in, ..Reclaimed::default() };
    let unnamed = drop_and_sweep(transfer, &are_named, &mut reclaimed).await;
    if unnamed.as_ref().is_err_and(ReclaimError::is_final) {
        return unnamed.map(|()| reclaimed);
    }
    // Whoever was not asked keeps nothing else; and an index without room may get some by this.
    rewrite::packs(transfer, &mut reclaimed).await?;
    reclaimed.bytes = before.saturating_sub(ledger.totals().file_bytes);
    unnamed.map(|()| reclaimed)
}

/// Let go what nobody names, and sweep the blobs that nothing counts for any more.
async fn drop_and_sweep<F, Fut, E>(
    transfer: &Arc<Inner>,
    are_named: &F,
    reclaimed: &mut Reclaimed,
) -> Result<(), ReclaimError<E>>
where
    F: Fn(Vec<ManifestRoot>) -> Fut,
    Fut: Future<Output = Result<Vec<bool>, E>>,
{
    let ledger = &transfer.store.ledger;
    let store = transfer.store.clone();
    work(transfer, move || recover::resume(&store)).await?;
    for root in index::drops(&*ledger.index)? {
        let_go_if_readable(transfer, root).await?;
    }
    let dropped = drop_all_unnamed(transfer, are_named, reclaimed).await;
    if dropped.as_ref().is_err_and(ReclaimError::is_final) {
        return dropped;
    }
    let store = transfer.store.clone();
    reclaimed.chunks = work(transfer, move || Ok(store.ledger.sweep()?)).await?;
    dropped
}

/// Ask about every held manifest that nobody needs.
async fn drop_all_unnamed<F, Fut, E>(
    transfer: &Arc<Inner>,
    are_named: &F,
    reclaimed: &mut Reclaimed,
) -> Result<(), ReclaimError<E>>
where
    F: Fn(Vec<ManifestRoot>) -> Fut,
    Fut: Future<Output = Result<Vec<bool>, E>>,
{
    let mut after = None;
    loop {
        let held = index::held_after(&*transfer.store.ledger.index, after.as_ref(), ROOTS_PER_STEP)?;
        let Some((last, _)) = held.last() else { return Ok(()) };
        after = Some(*last);
        // A manifest that is still being counted has an upload that needs it.
        let whole = held.into_iter().filter(|(_, held)| *held == Held::Whole).map(|(root, _)| root);
        // If this future is dropped, the questions are withdrawn; the next reclaim must ask again.
        let (mut questions, mut needed) = (Vec::new(), Vec::new());
        for root in whole {
            match Question::put(&transfer.store, root) {
                Some(question) => questions.push(question),
                None => needed.push(root),
            }
        }
        if !questions.is_empty() {
            drop_unnamed(transfer, questions, are_named, reclaimed).await?;
        }
        if !needed.is_empty() {
            let named = are_named(needed).await.map_err(ReclaimError::Unknown)?;
            reclaimed.needed += named.iter().filter(|is_named| !**is_named).count() as u64;
        }
    }
}

/// Ask about some manifests and let those go that nobody names or needs.
async fn drop_unnamed<F, Fut, E>(
    transfer: &Arc<Inner>,
    questions: Vec<Question<'_>>,
    are_named: &F,
    reclaimed: &mut Reclaimed,
) -> Result<(), ReclaimError<E>>
where
    F: Fn(Vec<ManifestRoot>) -> Fut,
    Fut: Future<Output = Result<Vec<bool>, E>>,
{
    let roots = questions.iter().map(|question| question.root).collect();
    let named = are_named(roots).await.map_err(ReclaimError::Unknown)?;
    assert_eq!(named.len(), questions.len(), "each question has an answer of its own");
    for (question, is_named) in questions.into_iter().zip(named) {
        if *transfer.stopping.borrow() {
            return Err(ReclaimError::Stopped);
        }
        let root = question.root;
        // A guard since the question has withdrawn it, however long the ones before this have taken.
        if is_named {
            continue;
        }
        if question.begin_drop()? {
            let_go_if_readable(transfer, root).await?;
            reclaimed.manifests += 1;
        } else {
            reclaimed.needed += 1;
        }
    }
    Ok(())
}

/// A question about one manifest, which is withdrawn when it is dropped.
struct Question<'a> {
    store: &'a Store,
    root: ManifestRoot,
    number: u64,
}

impl<'a> Question<'a> {
    /// `None` if somebody needs the manifest.
    fn put(store: &'a Store, root: ManifestRoot) -> Option<Self> {
        store.ledger.question(&root).map(|number| Self { store, root, number })
    }

    /// Begin to let it go, unless somebody has come to need it since it was put.
    fn begin_drop(&self) -> Result<bool, Fault> {
        self.store.ledger.begin_drop(&self.root, self.number)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.store.ledger.unquestion(&self.root, self.number);
    }
}

/// Count down what a manifest names, or report that its pages are damaged or lost.
///
/// Without its pages nobody knows what it counted for. That much stays on the disk until the same
/// image is uploaded again; it must not keep everything else there as well.
async fn let_go_if_readable(transfer: &Arc<Inner>, name: ManifestRoot) -> Result<(), DiskFailure> {
    if let Err(error) = let_go(transfer, name).await {
        let error = error.of_some_bytes()?;
        tracing::error!(manifest = %name.0, %error, "a deleted image's manifest is damaged; its chunks stay");
    }
    Ok(())
}

/// Count down what a manifest names.
async fn let_go(transfer: &Arc<Inner>, name: ManifestRoot) -> Result<(), DownloadError> {
    let store = transfer.store.clone();
    let count = move || {
        let mut reader = BlobReader::new(store.clone());
        let root = reader.root(&name)?;
        store.ledger.finish_drop::<DownloadError>(&name, &root, |page| reader.page(page))
    };
    transfer.workers.run(count).await.map_err(DownloadError::Disk)?
}

/// Run `step` where it may block.
async fn work<T: Send + 'static>(
    transfer: &Arc<Inner>,
    step: impl FnOnce() -> Result<T, DiskFailure> + Send + 'static,
) -> Result<T, DiskFailure> {
    transfer.workers.run(step).await?
}
