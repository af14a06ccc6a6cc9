//! Having other nodes fetch an upload while it goes on, so that little is left to copy when it ends.
//!
//! What was written since the last time becomes a manifest of its own, a *part*, which lives in memory. The nodes that
//! are to have a copy pull it like any other, but hold nothing in the end: what they have brought is a checkpoint
//! there, which the pull of the whole finds. Where the parts end is nobody else's business.
//!
//! # What it promises
//!
//! * A node that does not take a part is not asked again during this upload. Nothing is lost by it.
//! * One part at a time is on its way; meanwhile the next one grows.
//! * Nothing of it outlives the upload here.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::join_all;
use peerglass_catalog::manifest::{Builder, Entry, ManifestError, PAGE_ENTRIES_MAX, Page, PageRef, Root};
use peerglass_catalog::{Digest, NodeId};
use tokio::sync::Notify;

use super::pulls::{Purpose, offer};
use super::replicate::ask;
use crate::chunking::CUT;
use crate::gather::Progress;
use crate::peers::Peers;
use crate::transfer::Inner;
use crate::upload::CopyOrder;

/// Chunks of one part: at 64 KiB each, what a gigabit link carries in ten seconds.
const PART_CHUNKS_MAX: usize = 16 * 1024;
/// Pages of one part, which whoever pulls it has in memory.
pub(super) const PART_PAGES_MAX: usize = PART_CHUNKS_MAX / PAGE_ENTRIES_MAX;
/// Chunks that wait to be in a part. What comes beyond is not fetched before the upload ends.
const WAITING_CHUNKS_MAX: usize = 4 * PART_CHUNKS_MAX;

/// The chunks of an upload that were written and that nobody was asked to fetch yet.
pub(crate) struct Written {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    entries: VecDeque<Entry>,
    bytes: u64,
    /// No part begins any more.
    over: bool,
}

impl Written {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { entries: VecDeque::new(), bytes: 0, over: false };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    // Each critical section is one step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These can be read now.
    pub(crate) fn add(&self, entries: &[Entry]) {
        let mut state = self.state();
        if !state.over && !entries.is_empty() && state.entries.len() < WAITING_CHUNKS_MAX {
            state.bytes += entries.iter().map(Entry::plain_len).sum::<u64>();
            state.entries.extend(entries);
            self.changed.notify_one();
        }
    }

    /// Let no further part begin.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.over = true;
        state.entries = VecDeque::new();
        self.changed.notify_one();
    }

    /// The next part, of `bytes` at least; `None` if there is none.
    async fn part(&self, bytes: u64) -> Option<Vec<Entry>> {
        loop {
            {
                let mut state = self.state();
                if state.over {
                    return None;
                }
                if state.bytes >= bytes {
                    let count = state.entries.len().min(PART_CHUNKS_MAX);
                    let part: Vec<Entry> = state.entries.drain(..count).collect();
                    state.bytes -= part.iter().map(Entry::plain_len).sum::<u64>();
                    return Some(part);
                }
            }
            self.changed.notified().await;
        }
    }
}

/// Have the other nodes that are to have a copy fetch what is written of an upload, until it [ends](Written::end).
/// `progress` is what it has gathered. Answers with them, without those that did not fetch a part.
pub(crate) async fn run(
    transfer: Arc<Inner>,
    progress: Arc<Progress>,
    written: Arc<Written>,
    order: CopyOrder,
) -> Vec<NodeId> {
    let Some(peers) = transfer.peers.clone() else { return Vec::new() };
    let mut nodes = others(&*peers, &order);
    while !nodes.is_empty()
        && let Some(entries) = written.part(transfer.settings.part_bytes).await
    {
        let Ok(part) = Part::of(entries) else {
            // A bug; the upload itself does not need this.
            tracing::error!("what an upload has written is no manifest");
            break;
        };
        let beside = Arc::new(Progress::beside(&progress));
        part.blobs.into_iter().for_each(|(digest, bytes)| beside.show(digest, bytes));
        // The same bytes are being uploaded here twice: the other one is ahead.
        let Some(offer) = offer(&transfer, part.root, beside) else { break };
        let name = offer.name();
        let asked = nodes.iter().map(|node| ask(&transfer, Arc::clone(&peers), *node, name, Purpose::Ahead));
        let taken = join_all(asked).await;
        drop(offer);
        nodes = taken.into_iter().filter(|(_, taken)| *taken).map(|(node, _)| node).collect();
    }
    written.end();
    nodes
}

/// As many other nodes as are to have a copy, those first that are to keep one.
fn others(peers: &dyn Peers, order: &CopyOrder) -> Vec<NodeId> {
    let mut seen = BTreeSet::from([peers.me()]);
    let all = peers.homes(&order.image).into_iter().chain(peers.candidates());
    all.filter(|node| seen.insert(*node)).take(order.copies).collect()
}

/// A manifest of some chunks.
struct Part {
    root: Root,
    /// Its pages and its root.
    blobs: Vec<(Digest, Bytes)>,
}

impl Part {
    fn of(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        let (mut pages, mut blobs) = (Vec::new(), Vec::new());
        let mut enter = |page: Option<Page>| {
            let Some(page) = page else { return };
            let encoded = Bytes::from(page.encode());
            let digest = Digest::of(&encoded);
            pages.push(PageRef { digest, plain_len: page.plain_len() });
            blobs.push((digest, encoded));
        };
        let mut builder = Builder::new();
        for entry in entries {
            enter(builder.push(entry)?);
        }
        enter(builder.finish()?);
        let root = Root::new(CUT, pages)?;
        let encoded = Bytes::from(root.encode());
        blobs.push((Root::name(&encoded).0, encoded));
        Ok(Self { root, blobs })
    }
}
