//! The other nodes as the byte path sees them: who they are, nearest first, and a connection to each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{ManifestRoot, NodeEntry, NodeId};
use peerglass_consensus::Consensus;
use peerglass_transfer::{Connection, Keepers, PeerError, Peers, Place, Since, Transfer, WeakTransfer};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::dial::Dialer;
use super::port::{DialError, Purpose};
use crate::homes::Homes;

/// Pause before a node that could not be reached is dialled again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How long TCP is tried before QUIC, which costs more processor time.
const TCP_TRIED_FOR: Duration = Duration::from_millis(500);
/// How long a node that was reached by QUIC alone is not tried by TCP again.
const TCP_RETRY_AFTER: Duration = Duration::from_mins(1);

/// One connection to each other node, opened when it is wanted.
pub(crate) struct BytePeers {
    consensus: Consensus,
    homes: Homes,
    dialer: Dialer,
    slots: Mutex<BTreeMap<NodeId, Arc<AsyncMutex<Slot>>>>,
    /// Answers what the other ends ask over the connections opened here.
    answers: Mutex<Option<Answers>>,
}

struct Answers {
    /// Weak, because it holds its peers: a node that is dropped without a stop must let go of its port.
    transfer: WeakTransfer,
    tasks: JoinSet<()>,
}

impl Answers {
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of a connection for image bytes panicked");
            }
        }
    }
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    not_before: Option<Instant>,
    /// TCP did not work and QUIC did.
    no_tcp_before: Option<Instant>,
}

impl BytePeers {
    pub(crate) fn new(consensus: Consensus, homes: Homes, dialer: Dialer) -> Arc<Self> {
        Arc::new(Self { consensus, homes, dialer, slots: Mutex::default(), answers: Mutex::default() })
    }

    /// A node that is asked to hold an image fetches it over the connection it was asked on. From now on
    /// `transfer` answers there as well.
    pub(crate) fn answer_with(&self, transfer: &Transfer) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Answers { transfer: transfer.downgrade(), tasks: JoinSet::new() });
    }

    /// End every answer.
    pub(crate) async fn stop(&self) {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut answers) = answers {
            answers.tasks.shutdown().await;
        }
    }

    /// Drop every answer without waiting for its end.
    pub(crate) fn forget(&self) {
        drop(self.answers.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn serve(&self, connection: quinn::Connection, peer: NodeId) {
        if let Some(answers) = &mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner) {
            answers.reap();
            if let Some(transfer) = answers.transfer.upgrade() {
                answers.tasks.spawn(async move { transfer.serve_peer(connection, peer).await });
            }
        }
    }

    async fn open(&self, peer: NodeId) -> Result<Connection, PeerError> {
        let entry = self.consensus.member(peer).ok_or(PeerError::Unknown(peer))?;
        let slots = &self.slots;
        let slot = Arc::clone(slots.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default());
        let mut slot = slot.lock().await;
        if let Some(open) = slot.connection.clone().filter(|open| !open.is_closed()) {
            return Ok(self.over_tcp_if_it_can_be_now(&entry, &mut slot, open).await);
        }
        let unreachable =
            |reason: Box<dyn std::error::Error + Send + Sync>| PeerError::Unreachable { peer, reason };
        if slot.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return Err(unreachable("it could not be reached a moment ago".into()));
        }
        // Whoever asked may have lost interest by now and drop this: that says nothing of the peer.
        *slot = Slot { no_tcp_before: slot.no_tcp_before, ..Slot::default() };
        match self.dial(peer, &entry, &mut slot).await {
            Ok(connection) => {
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                slot.not_before = Some(Instant::now() + RETRY_AFTER);
                Err(unreachable(Box::new(error)))
            }
        }
    }
}

/// How a connection for image bytes comes about.
impl BytePeers {
    /// Over TCP where that is possible, else over QUIC.
    async fn dial(&self, peer: NodeId, entry: &NodeEntry, slot: &mut Slot) -> Result<Connection, DialError> {
        let may_try = slot.no_tcp_before.is_none_or(|not_before| Instant::now() >= not_before);
        if !self.dialer.has_tcp() || !may_try {
            return self.dial_quic(peer, entry).await;
        }
        if let Ok(Ok(connection)) = timeout(TCP_TRIED_FOR, self.dial_tcp(entry)).await {
            return Ok(connection);
        }
        let quic = self.dial_quic(peer, entry).await;
        if quic.is_ok() {
            tracing::debug!(peer = peer.0, "no TCP: image bytes go over QUIC");
            slot.no_tcp_before = Some(Instant::now() + TCP_RETRY_AFTER);
        }
        quic
    }

    /// One attempt over TCP that failed must not keep two nodes on QUIC for as long as that connection lasts.
    async fn over_tcp_if_it_can_be_now(
        &self,
        entry: &NodeEntry,
        slot: &mut Slot,
        open: Connection,
    ) -> Connection {
        let due = slot.no_tcp_before.is_some_and(|not_before| Instant::now() >= not_before);
        if !due || !matches!(open, Connection::Quic(_)) {
            return open;
        }
        slot.no_tcp_before = Some(Instant::now() + TCP_RETRY_AFTER);
        match timeout(TCP_TRIED_FOR, self.dial_tcp(entry)).await {
            Ok(Ok(connection)) => {
                slot.connection = Some(connection.clone());
                connection
            }
            Ok(Err(_)) | Err(_) => open,
        }
    }

    async fn dial_quic(&self, peer: NodeId, entry: &NodeEntry) -> Result<Connection, DialError> {
        let connection = self.dialer.connect(entry, Purpose::Chunks).await?;
        self.serve(connection.clone(), peer);
        Ok(connection.into())
    }

    async fn dial_tcp(&self, entry: &NodeEntry) -> Result<Connection, DialError> {
        let stream = self.dialer.connect_tcp(entry).await?;
        let (connection, carry) = Connection::over_tcp(stream).await?;
        match &mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(answers) => {
                answers.reap();
                answers.tasks.spawn(carry);
            }
            None => return Err(DialError::Timeout),
        }
        Ok(connection)
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
