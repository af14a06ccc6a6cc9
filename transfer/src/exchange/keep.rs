//! Keeping manifests: fetching one that this node is to keep, and telling others that it does.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peerglass_catalog::{ManifestRoot, NodeId};
use tokio::time::timeout;

use super::ask::{Link, on_a_link};
use super::hold::{PULLS_TRIED, is_held};
use super::pulls::follow;
use super::wire::HoldRefusal;
use crate::ledger::RootGuard;
use crate::peers::{Keepers, Since};
use crate::transfer::Inner;

/// How long a node may take to say whether it keeps a manifest: it may have to hear of an entry of the log
/// first, and then look at every page.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why a manifest was not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No node that can be reached gives all of it.
    #[error("no node gives all of its bytes")]
    NoSource,
    /// This node's disk has no room.
    #[error("the disk is full")]
    Full,
    /// This node's disk failed, or what it received cannot be kept.
    #[error("it cannot be stored")]
    Failed,
    /// Too many are being fetched already.
    #[error("too many images are being fetched")]
    Busy,
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

impl From<HoldRefusal> for FetchError {
    fn from(refusal: HoldRefusal) -> Self {
        match refusal {
            HoldRefusal::NoSource => Self::NoSource,
            HoldRefusal::Full => Self::Full,
            HoldRefusal::Failed => Self::Failed,
            HoldRefusal::Busy => Self::Busy,
            HoldRefusal::Stopping => Self::Stopped,
        }
    }
}

/// See [`Transfer::fetch`](crate::Transfer::fetch).
pub(crate) async fn fetch(transfer: &Arc<Inner>, root: ManifestRoot) -> Result<(), FetchError> {
    let _guard = RootGuard::new(Arc::clone(&transfer.store.ledger), root);
    for _ in 0..PULLS_TRIED {
        if is_held(transfer, root).await? {
            return Ok(());
        }
        match follow(transfer, root, 0)?.ended().await {
            Ok(()) => return Ok(()),
            Err(HoldRefusal::NoSource) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(FetchError::NoSource)
}

/// Whether this node, by a state with the log entry `at`, is to keep a manifest, and holds all of it durably.
/// Whatever it was about to let go of it stays: see `evict`.
pub(super) async fn keeps(transfer: &Arc<Inner>, root: ManifestRoot, at: u64) -> bool {
    let Some(peers) = &transfer.peers else { return false };
    let _guard = RootGuard::new(Arc::clone(&transfer.store.ledger), root);
    let keepers = peers.keepers(root, Since::Entry(at)).await;
    keepers.is_some_and(|keepers| keepers.at >= at && keepers.nodes.contains(&peers.me()))
        && is_held(transfer, root).await.unwrap_or(false)
}

/// What each of `keepers` says to whether it keeps `root`; `None` for those that do not answer.
pub(crate) async fn say_they_keep(
    transfer: &Arc<Inner>,
    root: ManifestRoot,
    keepers: &Keepers,
) -> Vec<(NodeId, Option<bool>)> {
    let Some(peers) = &transfer.peers else {
        return keepers.nodes.iter().map(|node| (*node, None)).collect();
    };
    let mut asked = FuturesUnordered::new();
    for node in &keepers.nodes {
        asked.push(async move {
            let ask = |link: Arc<Link>| async move { link.keeps(root, keepers.at).await };
            let said = timeout(ANSWER_WITHIN, on_a_link(&**peers, *node, ask)).await;
            (*node, said.ok().and_then(Result::ok))
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asked.next().await {
        answers.push(answer);
    }
    answers
}
