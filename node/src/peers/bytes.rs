//! The other nodes as the byte path sees them: who they are, nearest first, and a connection to each.

mod answers;
mod slot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{ImageId, ManifestRoot, NodeEntry, NodeId};
use peerglass_consensus::Consensus;
use peerglass_transfer::{Connection, Keepers, PeerError, Peers, Place, Since, Transfer};
use tokio::sync::Mutex as AsyncMutex;

use self::answers::Answers;
use self::slot::{Slot, Way};
use super::dial::Dialer;
use crate::homes::Homes;

/// One connection to each other node, opened when it is wanted.
pub(crate) struct BytePeers {
    consensus: Consensus,
    homes: Homes,
    dialer: Dialer,
    slots: Mutex<BTreeMap<NodeId, Arc<AsyncMutex<Slot>>>>,
    /// Answers what the other ends ask over the connections opened here.
    answers: Answers,
}

impl BytePeers {
    pub(crate) fn new(consensus: Consensus, homes: Homes, dialer: Dialer) -> Arc<Self> {
        Arc::new(Self { consensus, homes, dialer, slots: Mutex::default(), answers: Answers::default() })
    }

    /// A node that is asked to hold an image fetches it over the connection it was asked on. From now on
    /// `transfer` answers there as well.
    pub(crate) fn answer_with(&self, transfer: &Transfer) {
        self.answers.with(transfer);
    }

    /// End every answer.
    pub(crate) async fn stop(&self) {
        self.answers.stop().await;
    }

    /// Drop every answer without waiting for its end.
    pub(crate) fn forget(&self) {
        self.answers.forget();
    }

    async fn open(&self, peer: NodeId) -> Result<Connection, PeerError> {
        let entry = self.consensus.member(peer).ok_or(PeerError::Unknown(peer))?;
        let slots = &self.slots;
        let slot = Arc::clone(slots.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default());
        let way = Way { peer, entry: &entry, dialer: &self.dialer, answers: &self.answers };
        let opened = slot.lock().await.open(way).await;
        opened.map_err(|reason| PeerError::Unreachable { peer, reason })
    }
}

impl Peers for BytePeers {
    /// Those in the same rack first, then those of the same site; nodes of one kind begin with another
    /// one on each node, so that not all turn to the same.
    fn candidates(&self) -> Vec<NodeId> {
        let me = self.consensus.member(self.consensus.node()).unwrap_or_default();
        let mut others = self.consensus.others();
        others.retain(|(_, entry)| !entry.address.is_empty());
        let mine = self.consensus.node().0;
        others.sort_by_key(|(node, entry)| (distance(&me, entry), node.0.wrapping_sub(mine)));
        others.into_iter().map(|(node, _)| node).collect()
    }

    fn me(&self) -> NodeId {
        self.consensus.node()
    }

    fn place(&self, node: NodeId) -> Place {
        let entry = self.consensus.member(node).unwrap_or_default();
        Place { site: entry.site, rack: entry.rack }
    }

    fn keepers(&self, root: ManifestRoot, since: Since) -> BoxFuture<'_, Option<Keepers>> {
        Box::pin(self.homes.keepers(root, since))
    }

    fn homes(&self, image: &ImageId) -> Vec<NodeId> {
        self.homes.of_image(image)
    }

    fn connect(&self, peer: NodeId) -> BoxFuture<'_, Result<Connection, PeerError>> {
        Box::pin(self.open(peer))
    }
}

fn distance(me: &NodeEntry, other: &NodeEntry) -> u8 {
    match (me.site == other.site, me.rack == other.rack) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}
