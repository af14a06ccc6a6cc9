//! The other nodes, as the byte path sees them.
//!
//! Who they are, how they are reached and whether they may speak to us is decided elsewhere; what
//! comes over their connections is checked here.

use std::error::Error;

use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{ImageId, ManifestRoot, NodeId};

use crate::connection::Connection;

/// Where a node is. Equal names are the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose links to other sites are dear.
    pub site: String,
    /// Within the site.
    pub rack: String,
}

/// Which state an answer must be from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Whatever this node has, however old.
    Whenever,
    /// This entry of the log, or a later one.
    Entry(u64),
    /// One that knows everything that was settled before the question.
    Now,
}

/// Who is to keep a manifest, by one state of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keepers {
    /// Index of the last log entry in that state.
    pub at: u64,
    /// Its homes, the most important one first, and then the nodes at sites that it is pinned to.
    pub nodes: Vec<NodeId>,
    /// So many images name it that it is not known where they are pinned: whoever has it keeps it.
    pub anybody: bool,
}

/// The other nodes, as the byte path sees them.
///
/// A QUIC connection that is handed out twice, or that both sides use to ask, must be given to
/// [`serve_peer`](crate::Transfer::serve_peer) as well: otherwise what the other side asks on it is
/// never answered.
pub trait Peers: Send + Sync + 'static {
    /// Nodes that may hold bytes or take copies, those worth asking first first. Never this node.
    fn candidates(&self) -> Vec<NodeId>;

    /// This node.
    fn me(&self) -> NodeId;

    /// Where a node is, this one or another; the default place for one that is not known.
    fn place(&self, node: NodeId) -> Place;

    /// Who is to keep a manifest; `None` if no such state can be had within a few seconds.
    fn keepers(&self, root: ManifestRoot, since: Since) -> BoxFuture<'_, Option<Keepers>>;

    /// Who is to keep the bytes of an image that has none yet, this node perhaps among them, the most important one
    /// first; nobody if that is not known.
    fn homes(&self, image: &ImageId) -> Vec<NodeId>;

    /// A connection of ALPN `peerglass-chunks/1` to `peer`: the open one, or a new one.
    fn connect(&self, peer: NodeId) -> BoxFuture<'_, Result<Connection, PeerError>>;
}

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Not a node of this cluster, or one without an address.
    #[error("node {} is not known", .0.0)]
    Unknown(NodeId),
    /// It does not answer, or not as the node it should be.
    #[error("node {} cannot be reached: {reason}", .peer.0)]
    Unreachable {
        /// Whom.
        peer: NodeId,
        /// What the attempt ended with.
        #[source]
        reason: Box<dyn Error + Send + Sync>,
    },
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopped,
}
