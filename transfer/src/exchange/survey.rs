//! How much of a manifest each node has, and having nodes fetch it ahead of anybody who wants it.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peerglass_catalog::{ManifestRoot, NodeId};
use tokio::time::{Duration, timeout};

use super::ask::{Holding, Link, on_a_link};
use super::pulls::{Purpose, follow};
use super::wire::HoldRefusal;
use crate::error::DownloadError;
use crate::swarm::Pieces;
use crate::transfer::Inner;

/// How long a node may take to say what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How much of an image a node has, in pieces: the units a swarm counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Share {
    /// Pieces that can be read there.
    pub pieces: u32,
    /// Pieces the image has; 0 if the node does not know. Those of a node that pulls, or has all.
    pub of: u32,
    /// Whether it is being pulled there.
    pub pulling: bool,
    /// Bytes that the pull has received: less than the image has, where they came compressed.
    pub received_bytes: u64,
}

impl Share {
    const NOTHING: Self = Self { pieces: 0, of: 0, pulling: false, received_bytes: 0 };

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        !self.pulling && self.pieces == self.of && self.of > 0
    }
}

/// Why an image is not fetched ahead.
#[derive(Debug, thiserror::Error)]
pub enum PrefetchError {
    /// Too many are being fetched already.
    #[error("too many images are being fetched; try again later")]
    Busy,
    /// This node has no peers, or is stopping.
    #[error("there is no node to fetch it from")]
    NoSource,
}

/// What this node has of it.
pub(super) async fn here(transfer: &Arc<Inner>, root: ManifestRoot) -> Result<Share, DownloadError> {
    if let Some(pull) = transfer.pulls.of(&root) {
        let view = pull.view();
        let view = view.borrow();
        let of = view.root.as_ref().map_or(0, |root| Pieces::new(root).count());
        let pieces = *pull.having.count().borrow();
        return Ok(Share {
            pieces: pieces as u32,
            of: of as u32,
            pulling: true,
            received_bytes: view.received,
        });
    }
    let store = transfer.store.clone();
    let look = move || {
        if !store.ledger.holds_whole(&root)? {
            return Ok(Share::NOTHING);
        }
        // The empty image has no pieces, and is there all the same.
        let count = Pieces::new(&crate::store::BlobReader::new(store).root(&root)?).count().max(1) as u32;
        Ok(Share { pieces: count, of: count, ..Share::NOTHING })
    };
    transfer.workers.run(look).await.map_err(DownloadError::Disk)?
}

/// What every candidate has of it; `None` for those that do not say.
pub(crate) async fn survey(
    transfer: &Arc<Inner>,
    root: ManifestRoot,
) -> Result<Vec<(NodeId, Option<Share>)>, DownloadError> {
    let mut shares = Vec::new();
    let Some(peers) = &transfer.peers else {
        return Ok(vec![(NodeId(0), Some(here(transfer, root).await?))]);
    };
    shares.push((peers.me(), Some(here(transfer, root).await?)));
    let mut asked = FuturesUnordered::new();
    for node in peers.candidates() {
        asked.push(async move {
            let ask = |link: Arc<Link>| async move { link.share(root).await };
            let said = timeout(ANSWER_WITHIN, on_a_link(&**peers, node, ask)).await;
            (node, said.ok().and_then(Result::ok))
        });
    }
    while let Some(share) = asked.next().await {
        shares.push(share);
    }
    shares.sort_by_key(|(node, _)| *node);
    Ok(shares)
}

/// Have a node fetch all of it, this one or another; that goes on after this has answered.
pub(crate) fn prefetch(transfer: &Arc<Inner>, root: ManifestRoot, node: NodeId) -> Result<(), PrefetchError> {
    let peers = transfer.peers.clone().ok_or(PrefetchError::NoSource)?;
    if node == peers.me() {
        return match follow(transfer, root, 0) {
            Ok(_) => Ok(()),
            Err(HoldRefusal::Busy) => Err(PrefetchError::Busy),
            Err(_) => Err(PrefetchError::NoSource),
        };
    }
    let mut ending = transfer.ending.subscribe();
    transfer.spawn(async move {
        let hold = |link: Arc<Link>| async move { link.hold(root, Purpose::Hold).await };
        let held = tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => return,
            held = on_a_link(&*peers, node, hold) => held,
        };
        match held {
            Ok(Holding::Held) => {}
            Ok(Holding::Refused(reason)) => {
                tracing::warn!(peer = node.0, ?reason, manifest = %root.0, "a node does not fetch an image");
            }
            Err(error) => {
                tracing::warn!(peer = node.0, %error, manifest = %root.0, "a node does not fetch an image");
            }
        }
    });
    Ok(())
}
