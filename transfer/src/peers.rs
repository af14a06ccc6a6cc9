//! The other nodes, as the byte path sees them.
//!
//! Who they are, how they are reached and whether they may speak to us is decided elsewhere; what
//! comes over their connections is checked here.

use std::error::Error;

use peerglass_catalog::NodeId;
use peerglass_catalog::keyspace::BoxFuture;

use crate::connection::Connection;

/// Where a node is. Equal names are the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Whose links to other sites are dear.
    pub site: String,
    /// Within the site.
    pub rack: String,
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
