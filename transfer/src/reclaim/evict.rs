//! Letting go of what this node need not keep, so that its packs take no more than they may.
//!
//! Least recently used first, and only what others keep: each node that is to keep the manifest has to say, for this
//! one time, that it does. A manifest that somebody needs here, and one that this node is to keep, stays.
//!
//! # Why the last copy is never let go
//!
//! Two nodes may know different states of the cluster, and each may take the other for a home. A node that lets go
//!
//! 1. puts its *question*, which whoever comes to need the manifest withdraws, and no later question stands for;
//! 2. learns who keeps it from a state that is no older than the question (a barrier), with the log entry `at`. It
//!    goes on only if somebody keeps it and it is none of them;
//! 3. asks all of them, and goes on only if each says yes: it needs the manifest while it answers, which withdraws
//!    its own question, it waits until it has applied `at`, and by that state or a later one it is to keep the
//!    manifest and holds all of it, durably;
//! 4. drops the manifest if nobody has withdrawn the question.
//!
//! So when A relies on B, B's question about the same manifest, if it ever puts one, comes after B's yes, and that
//! after A's question. Along a chain of nodes of which each relied on the next the questions are later and later, and
//! the states by which they decide newer and newer: it cannot close. It is finite, so it ends at a node that said yes
//! and has let nothing go. What the disk of that node does later is for others to repair.
//!
//! # What it leaves to others
//!
//! A crash: dropping is reclaim's, step by step, and resumes. What a power cut takes back is held again.

use std::collections::BTreeSet;
use std::sync::Arc;

use peerglass_catalog::keyspace::Fault;
use peerglass_catalog::{ManifestRoot, NodeId};

use super::{Question, Reclaimed, let_go_if_readable, rewrite, work};
use crate::error::ReclaimError;
use crate::exchange::say_they_keep;
use crate::index::{self, Held};
use crate::mutation::{self, Mutation};
use crate::peers::{Keepers, Peers, Since};
use crate::store::Store;
use crate::transfer::Inner;

/// Manifests that others are asked about in one run: what was learnt of the use of others is old by then.
const ASKED_MAX: usize = 1_024;
/// Manifests let go before packs are rewritten without them, so that room comes before the end of a long run.
const DROPS_PER_REWRITE: u64 = 16;

/// The state of the cluster cannot be had: nothing can be let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster's newest state cannot be had")]
pub struct StateUnknown;

/// What an eviction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Manifests let go.
    pub manifests: u64,
    /// Bytes that packs take less than before.
    pub bytes: u64,
}

/// See [`Transfer::evict`](crate::Transfer::evict).
pub(crate) async fn run(
    transfer: &Arc<Inner>,
    bytes_max: u64,
) -> Result<Evicted, ReclaimError<StateUnknown>> {
    let ledger = &transfer.store.ledger;
    let before = ledger.totals().file_bytes;
    let Some(peers) = transfer.peers.clone().filter(|_| before > bytes_max) else {
        return Ok(Evicted::default());
    };
    let mut stopping = transfer.stopping.subscribe();
    let store = transfer.store.clone();
    let candidates = work(transfer, move || Ok(least_used_first(&store)?)).await?;
    let mut eviction = Eviction { transfer, peers, silent: BTreeSet::new(), manifests: 0 };
    let mut asked = 0;
    let (mut needed, mut let_go) = (eviction.needed_bytes().await?, 0);
    for root in candidates {
        if let_go != eviction.manifests {
            (needed, let_go) = (eviction.needed_bytes().await?, eviction.manifests);
        }
        if needed <= bytes_max / 10 * 9 || asked == ASKED_MAX {
            break;
        }
        // What this node has is enough to see that something stays.
        let known = eviction.peers.keepers(root, Since::Whenever).await;
        if !known.is_some_and(|keepers| eviction.may_go(&keepers)) {
            continue;
        }
        asked += 1;
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return Err(ReclaimError::Stopped),
            let_go = eviction.let_go_if_kept(root) => let_go?,
        }
    }
    if eviction.manifests > 0 {
        let _alone = transfer.reclaiming.lock().await;
        rewrite::packs(transfer, &mut Reclaimed::default()).await?;
    }
    let bytes = before.saturating_sub(ledger.totals().file_bytes);
    Ok(Evicted { manifests: eviction.manifests, bytes })
}

/// What this node holds whole, least recently used first.
fn least_used_first(store: &Store) -> Result<Vec<ManifestRoot>, Fault> {
    let index = &*store.ledger.index;
    let mut used = Vec::new();
    for (root, held) in index::held_after(index, None, usize::MAX)? {
        if held == Held::Whole {
            used.push((index::last_use(index, &root)?, root));
        }
    }
    used.sort_unstable();
    Ok(used.into_iter().map(|(_, root)| root).collect())
}

/// One run.
struct Eviction<'a> {
    transfer: &'a Arc<Inner>,
    peers: Arc<dyn Peers>,
    /// Nodes that did not answer: each would make every further question wait.
    silent: BTreeSet<NodeId>,
    manifests: u64,
}

impl Eviction<'_> {
    /// Bytes of what somebody still names. What nobody does is as good as gone.
    async fn needed_bytes(&self) -> Result<u64, ReclaimError<StateUnknown>> {
        let store = self.transfer.store.clone();
        let unnamed = work(self.transfer, move || Ok(store.ledger.unnamed_bytes()?)).await?;
        Ok(self.transfer.store.ledger.totals().live_bytes.saturating_sub(unnamed))
    }

    /// Whether a manifest need not be here, and all who keep it might say so.
    fn may_go(&self, keepers: &Keepers) -> bool {
        if mutation::is(Mutation::LastCopyEvicted) {
            return true;
        }
        let all_answer = keepers.nodes.iter().all(|node| !self.silent.contains(node));
        !keepers.anybody
            && !keepers.nodes.is_empty()
            && !keepers.nodes.contains(&self.peers.me())
            && all_answer
    }

    /// Let one manifest go if the others keep it: see the module.
    async fn let_go_if_kept(&mut self, root: ManifestRoot) -> Result<(), ReclaimError<StateUnknown>> {
        let store = &self.transfer.store;
        let Some(question) = Question::put(store, root) else { return Ok(()) };
        let keepers =
            self.peers.keepers(root, Since::Now).await.ok_or(ReclaimError::Unknown(StateUnknown))?;
        if !self.may_go(&keepers) {
            return Ok(());
        }
        let said = match mutation::is(Mutation::LastCopyEvicted) {
            true => Vec::new(),
            false => say_they_keep(self.transfer, root, &keepers).await,
        };
        self.silent.extend(said.iter().filter(|(_, keeps)| keeps.is_none()).map(|(node, _)| *node));
        if !said.iter().all(|(_, keeps)| *keeps == Some(true)) {
            return Ok(());
        }
        let _alone = self.transfer.reclaiming.lock().await;
        if *self.transfer.stopping.borrow() {
            return Err(ReclaimError::Stopped);
        }
        if question.begin_drop()? {
            tracing::debug!(manifest = %root.0, keepers = ?keepers.nodes, "let go of what others keep");
            let_go_if_readable(self.transfer, root).await?;
            let store = store.clone();
            work(self.transfer, move || Ok(store.ledger.sweep()?)).await?;
            self.manifests += 1;
            if self.manifests.is_multiple_of(DROPS_PER_REWRITE) {
                rewrite::packs(self.transfer, &mut Reclaimed::default()).await?;
            }
        }
        Ok(())
    }
}
