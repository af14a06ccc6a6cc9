//! Having other nodes hold a manifest.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peerglass_catalog::{ManifestRoot, NodeId};
use tokio::sync::oneshot;

use super::ask::{Holding, Link, on_a_link};
use super::pulls::Purpose;
use super::serve;
use crate::connection::Connection;
use crate::error::DownloadError;
use crate::ledger::RootGuard;
use crate::mutation::{self, Mutation};
use crate::peers::{Peers, Since};
use crate::transfer::Inner;

/// Why a manifest is not held by as many other nodes as were wanted. Those that hold it go on holding it
/// until their reclaim finds that no image names it.
#[derive(Debug, thiserror::Error)]
pub enum ReplicateError {
    /// Every candidate was asked.
    #[error("{got} of {wanted} other nodes hold the image")]
    NotEnough {
        /// How many were to hold it.
        wanted: usize,
        /// How many do.
        got: usize,
    },
    /// This node does not hold it itself, or cannot tell.
    #[error(transparent)]
    Here(DownloadError),
}

/// See [`Transfer::replicate`](crate::Transfer::replicate).
pub(crate) async fn replicate(
    transfer: &Arc<Inner>,
    root: ManifestRoot,
    copies: usize,
    first: &[NodeId],
) -> Result<Vec<NodeId>, ReplicateError> {
    // Peers fetch from here while this waits.
    let _guard = RootGuard::new(Arc::clone(&transfer.store.ledger), root);
    let held = transfer.store.ledger.holds_whole(&root);
    if !held.map_err(|fault| ReplicateError::Here(fault.into()))? {
        return Err(ReplicateError::Here(DownloadError::Missing(root)));
    }
    if mutation::is(Mutation::AcknowledgedBeforeReplica) {
        return Ok(Vec::new());
    }
    let mut ending = transfer.ending.subscribe();
    tokio::select! {
        biased;
        _ = ending.wait_for(|ending| *ending) => Err(ReplicateError::Here(DownloadError::Stopped)),
        replicated = ask_candidates(transfer, root, copies, first) => replicated,
    }
}

async fn ask_candidates(
    transfer: &Arc<Inner>,
    root: ManifestRoot,
    copies: usize,
    first: &[NodeId],
) -> Result<Vec<NodeId>, ReplicateError> {
    let mut left = VecDeque::new();
    if let Some(peers) = &transfer.peers {
        // Those that have most of it already, then those that are to keep it.
        left.extend(first.iter().copied());
        left.extend(in_order(&**peers, root).await.into_iter().filter(|node| !first.contains(node)));
    }
    let mut holders = Vec::new();
    let mut asked = FuturesUnordered::new();
    while holders.len() < copies {
        while holders.len() + asked.len() < copies
            && let Some((node, peers)) = left.pop_front().zip(transfer.peers.clone())
        {
            asked.push(ask(transfer, peers, node, root, Purpose::Hold));
        }
        match asked.next().await {
            Some((node, true)) => holders.push(node),
            Some((_, false)) => {}
            None => return Err(ReplicateError::NotEnough { wanted: copies, got: holders.len() }),
        }
    }
    Ok(holders)
}

/// Every other node, those first that are to keep `root`: they need not fetch it later, and others need not drop it.
async fn in_order(peers: &dyn Peers, root: ManifestRoot) -> Vec<NodeId> {
    let homes = peers.keepers(root, Since::Whenever).await.unwrap_or_default().nodes;
    let mut seen = BTreeSet::from([peers.me()]);
    homes.into_iter().chain(peers.candidates()).filter(|node| seen.insert(*node)).collect()
}

/// Have one node hold the manifest, or fetch it ahead. Answers with whether it does.
pub(super) async fn ask(
    transfer: &Arc<Inner>,
    peers: Arc<dyn Peers>,
    node: NodeId,
    root: ManifestRoot,
    purpose: Purpose,
) -> (NodeId, bool) {
    let hold = |link: Arc<Link>| async move {
        // Over QUIC it fetches by this connection, which nobody else may be serving. What it has begun to
        // fetch is given to it to the end, so this outlives the request.
        let (asking, asked) = oneshot::channel::<()>();
        let until = async move { drop(asked.await) };
        if let Connection::Quic(connection) = link.connection().clone() {
            transfer.spawn(serve::connection(Arc::clone(transfer), connection.into(), node, until));
        }
        let holding = link.hold(root, purpose).await;
        drop(asking);
        holding
    };
    let refused = match on_a_link(&*peers, node, hold).await {
        Ok(Holding::Held) => return (node, true),
        Ok(Holding::Refused(reason)) => format!("{reason:?}"),
        Err(error) => error.to_string(),
    };
    match purpose {
        Purpose::Hold => {
            tracing::warn!(peer = node.0, reason = refused, manifest = %root.0, "a node does not hold an image");
        }
        // It will be asked to hold the whole.
        Purpose::Ahead => tracing::debug!(peer = node.0, reason = refused, "a node fetches nothing ahead"),
    }
    (node, false)
}
