//! One pull: everything a manifest names and this node does not hold, fetched, verified and kept.
//!
//! The root first, then page after page, from the one the first reader waits for to the end and then
//! from the beginning. Chunks are fetched in batches, several at once, and written in order, so that
//! readers can follow.
//!
//! # What it promises
//!
//! * What is held soundly already is not fetched again. Holes are never asked for.
//! * At most [`BATCHES_IN_FLIGHT`] batches of [`SEGMENT_BYTES`] are in memory, besides one being written
//!   and the pages of one group.
//! * Dropped at any await, it leaves what an upload would: nothing, or what reclaim removes.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use peerglass_catalog::manifest::{
    ENTRY_BYTES_MAX, Entry, ManifestError, PAGE_ENTRIES_MAX, PAGES_MAX, Page, PageRef, Root,
};
use peerglass_catalog::{Digest, ManifestRoot};
use tokio::sync::watch;

use super::ask::{Want, WantLen};
use super::pulls::{Pull, View};
use super::sources::FetchError;
use super::wire::HoldRefusal;
use crate::error::DownloadError;
use crate::gather::{BackgroundSync, Gather, KeepError, commit};
use crate::pack::BlobKind;
use crate::segment::SEGMENT_BYTES;
use crate::store::BlobReader;
use crate::transfer::Inner;

/// Batches requested and not written yet: 8 MiB, which fills 100 ms of a link of 80 MB/s.
const BATCHES_IN_FLIGHT: usize = 8;
/// Pages asked for at once, except for the first, which somebody waits for: 700 KiB, for 1 GiB.
const PAGES_AT_ONCE: usize = 16;
/// Longest page: flags, two lengths and a digest for each entry.
pub(crate) const PAGE_BYTES_MAX: u32 = 16 + PAGE_ENTRIES_MAX as u32 * 48;
/// Longest root: a length and a digest for each page. Only images of terabytes come near.
const ROOT_BYTES_MAX: u32 = 64 + PAGES_MAX as u32 * 42;

/// Why a manifest was not pulled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The bytes are those named, and are no manifest that this release can keep.
    #[error("it cannot be used: {0}")]
    Unusable(#[from] ManifestError),
    /// A page covers another length than its root says, or a chunk is stored in an unknown form.
    #[error("its pages contradict its root or are of a newer release")]
    Contradiction,
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("this node is stopping")]
    Stopped,
}

impl PullError {
    /// As others are told.
    pub(crate) fn refusal(&self) -> HoldRefusal {
        match self {
            Self::Fetch(FetchError::NoSource) => HoldRefusal::NoSource,
            Self::Keep(KeepError::Full) => HoldRefusal::Full,
            Self::Stopped => HoldRefusal::Stopping,
            Self::Fetch(FetchError::Disk(_))
            | Self::Unusable(_)
            | Self::Contradiction
            | Self::Keep(KeepError::Disk(_)) => HoldRefusal::Failed,
        }
    }
}

/// Chunks to fetch together, and the page that names them.
struct Batch {
    page: usize,
    wants: Vec<Want>,
}

/// Pull `root`, beginning at the byte `from` of the image.
pub(super) async fn run(
    transfer: &Arc<Inner>,
    root: ManifestRoot,
    from: u64,
    pull: &Pull,
    says: &watch::Sender<View>,
) -> Result<(), PullError> {
    let Ok(_slot) = transfer.pulls.slots.acquire().await else { return Err(PullError::Stopped) };
    let gather = Gather::new(transfer, Arc::clone(&pull.progress));
    let (mut gather, encoded) = root_blob(transfer, gather, pull, root).await?;
    let decoded = Arc::new(Root::decode(&encoded)?);
    let pages = page_order(&decoded, from);
    says.send_modify(|view| {
        view.page = pages.front().copied().unwrap_or(0);
        view.root = Some(Arc::clone(&decoded));
    });
    let mut intake = Intake {
        transfer,
        pull,
        says,
        pages,
        root: Arc::clone(&decoded),
        from,
        batches: VecDeque::new(),
        sync: BackgroundSync::default(),
    };
    gather = intake.receive(gather).await?;
    intake.sync.finish().await.map_err(KeepError::from)?;
    let last = move || {
        gather.add_blob(root.0, &encoded, BlobKind::Root)?;
        Ok::<_, KeepError>(gather)
    };
    let gather = transfer.workers.run(last).await.map_err(KeepError::Disk)??;
    let root_again = Arc::unwrap_or_clone(decoded);
    commit(transfer, gather.finish(root, root_again)).await?;
    Ok(())
}

/// The encoded root, from this node or from a peer.
async fn root_blob(
    transfer: &Arc<Inner>,
    gather: Gather,
    pull: &Pull,
    root: ManifestRoot,
) -> Result<(Gather, Bytes), PullError> {
    let (gather, mut held) = held_blobs(transfer, gather, vec![root.0]).await?;
    if let Some(held) = held.pop().flatten() {
        return Ok((gather, held));
    }
    let want = Want { digest: root.0, len: WantLen::AtMost(ROOT_BYTES_MAX) };
    let mut fetched = pull.sources.fetch(&[want]).await?;
    let fetched = fetched.pop().ok_or(FetchError::NoSource)?;
    Ok((gather, fetched))
}

/// Those of the blobs that this node holds soundly, which it then relies on.
async fn held_blobs(
    transfer: &Arc<Inner>,
    mut gather: Gather,
    digests: Vec<Digest>,
) -> Result<(Gather, Vec<Option<Bytes>>), KeepError> {
    let mut reader = BlobReader::new(transfer.store.clone());
    let read = move || {
        let mut held = Vec::with_capacity(digests.len());
        for digest in &digests {
            held.push(match gather.is_new(digest)? {
                true => None,
                false => match reader.blob(digest) {
                    Ok(bytes) => Some(Bytes::from(bytes)),
                    // Known to be so from now on, hence new.
                    Err(DownloadError::Damaged { .. }) => None,
                    Err(error) => return Err(error.into()),
                },
            });
        }
        Ok((gather, held))
    };
    transfer.workers.run(read).await.map_err(KeepError::Disk)?
}

/// Every page, from the one that holds the byte `from` on and then from the first.
fn page_order(root: &Root, from: u64) -> VecDeque<usize> {
    let mut end = 0;
    let holds = root.pages().iter().position(|page| {
        end += page.plain_len;
        from < end
    });
    let count = root.pages().len();
    let first = holds.unwrap_or(0);
    (first..count).chain(0..first).collect()
}

/// What is left to receive.
struct Intake<'a> {
    transfer: &'a Arc<Inner>,
    pull: &'a Pull,
    says: &'a watch::Sender<View>,
    root: Arc<Root>,
    from: u64,
    /// Not planned yet.
    pages: VecDeque<usize>,
    /// Planned and not requested yet.
    batches: VecDeque<Batch>,
    sync: BackgroundSync,
}

impl Intake<'_> {
    /// Receive every page and chunk.
    async fn receive(&mut self, mut gather: Gather) -> Result<Gather, PullError> {
        let sources = &self.pull.sources;
        let mut flight = FuturesOrdered::new();
        let mut at_once = 1;
        loop {
            while flight.len() < BATCHES_IN_FLIGHT {
                let Some(batch) = self.batches.pop_front() else {
                    if self.pages.is_empty() {
                        break;
                    }
                    gather = self.plan(gather, at_once).await?;
                    at_once = PAGES_AT_ONCE;
                    continue;
                };
                flight.push_back(async move {
                    let fetched = sources.fetch(&batch.wants).await;
                    (batch, fetched)
                });
            }
            let Some((batch, fetched)) = flight.next().await else { return Ok(gather) };
            gather = self.write(gather, batch, fetched?).await?;
        }
    }

    /// Get the next pages and plan what they name.
    async fn plan(&mut self, gather: Gather, at_once: usize) -> Result<Gather, PullError> {
        let mut pages: Vec<(usize, PageRef)> = Vec::new();
        while pages.len() < at_once
            && let Some(page) = self.pages.pop_front()
        {
            pages.extend(self.root.pages().get(page).map(|found| (page, *found)));
        }
        let digests = pages.iter().map(|(_, page)| page.digest).collect();
        let (gather, mut blobs) = held_blobs(self.transfer, gather, digests).await?;
        let missing: Vec<usize> = (0..blobs.len()).filter(|at| blobs[*at].is_none()).collect();
        let want = |at: &usize| Want { digest: pages[*at].1.digest, len: WantLen::AtMost(PAGE_BYTES_MAX) };
        let wants: Vec<Want> = missing.iter().map(want).collect();
        if !wants.is_empty() {
            let fetched = self.pull.sources.fetch(&wants).await?;
            for (at, bytes) in missing.into_iter().zip(fetched) {
                self.says.send_modify(|view| view.received += bytes.len() as u64);
                blobs[at] = Some(bytes);
            }
        }
        let start = |page: usize| self.root.pages()[..page].iter().map(|page| page.plain_len).sum::<u64>();
        // Only the first page of all can hold the byte that somebody waits for.
        let skip = pages.first().map_or(0, |(page, _)| self.from.saturating_sub(start(*page)));
        let plan = move || plan_pages(gather, &pages, blobs.into_iter().flatten(), skip);
        let (gather, batches) = self.transfer.workers.run(plan).await.map_err(KeepError::Disk)??;
        self.batches.extend(batches);
        self.from = 0;
        Ok(gather)
    }

    /// Write what was fetched and tell whoever waits for it.
    async fn write(
        &mut self,
        mut gather: Gather,
        batch: Batch,
        fetched: Vec<Bytes>,
    ) -> Result<Gather, PullError> {
        let Batch { page, wants } = batch;
        let received: u64 = fetched.iter().map(|bytes| bytes.len() as u64).sum();
        let write = move || {
            let mut run = Vec::with_capacity(received as usize);
            for (want, bytes) in wants.iter().zip(&fetched) {
                // Two pages may name it and have been planned before either was written.
                if gather.is_new(&want.digest)? {
                    gather.add_to_run(want.digest, bytes.len(), BlobKind::Chunk);
                    run.extend_from_slice(bytes);
                }
            }
            gather.write_run(&run)?;
            Ok::<_, KeepError>(gather)
        };
        let gather = self.transfer.workers.run(write).await.map_err(KeepError::Disk)??;
        self.sync.begin_if_due(&self.pull.progress);
        let checked = poll_fn(|cx| Poll::Ready(self.sync.check(cx))).await;
        checked.map_err(KeepError::from)?;
        self.says.send_modify(|view| {
            view.page = page;
            view.received += received;
        });
        Ok(gather)
    }
}

/// Keep pages that were received and list what of their chunks is lacking; of the first page those from the
/// byte `skip` on first.
fn plan_pages(
    mut gather: Gather,
    pages: &[(usize, PageRef)],
    blobs: impl Iterator<Item = Bytes>,
    skip: u64,
) -> Result<(Gather, Vec<Batch>), PullError> {
    let mut batches = Vec::new();
    let mut skip = Some(skip);
    for ((number, expected), encoded) in pages.iter().zip(blobs) {
        let page = Page::decode(&encoded)?;
        if page.plain_len() != expected.plain_len {
            return Err(PullError::Contradiction);
        }
        gather.add_blob(expected.digest, &encoded, BlobKind::Page)?;
        let first = skip.take().map_or(0, |skip| entry_at(&page, skip));
        let (before, after) = page.entries().split_at(first);
        plan_chunks(&mut gather, *number, after.iter().chain(before), &mut batches)?;
    }
    Ok((gather, batches))
}

/// The entry that holds the byte `skip` of its page.
fn entry_at(page: &Page, skip: u64) -> usize {
    let mut end = 0;
    let holds = page.entries().iter().position(|entry| {
        end += entry.plain_len();
        skip < end
    });
    holds.unwrap_or(0)
}

fn plan_chunks<'a>(
    gather: &mut Gather,
    page: usize,
    entries: impl Iterator<Item = &'a Entry>,
    batches: &mut Vec<Batch>,
) -> Result<(), PullError> {
    const { assert!(ENTRY_BYTES_MAX as usize <= SEGMENT_BYTES, "a batch holds the longest chunk") };
    let mut planned = BTreeSet::new();
    let mut batch = Batch { page, wants: Vec::new() };
    let mut bytes = 0;
    for entry in entries {
        let Entry::Chunk { digest, plain_len, stored_len } = entry else { continue };
        if plain_len != stored_len {
            return Err(PullError::Contradiction);
        }
        if !planned.insert(*digest) || !gather.is_new(digest).map_err(KeepError::from)? {
            continue;
        }
        if bytes + *stored_len as usize > SEGMENT_BYTES {
            batches.push(std::mem::replace(&mut batch, Batch { page, wants: Vec::new() }));
            bytes = 0;
        }
        bytes += *stored_len as usize;
        batch.wants.push(Want { digest: *digest, len: WantLen::Exactly(*stored_len) });
    }
    if !batch.wants.is_empty() {
        batches.push(batch);
    }
    Ok(())
}
