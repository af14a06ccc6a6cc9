//! Raft between nodes: messages over QUIC connections that somebody else opens.
//!
//! The node's peer port dials and accepts, and vouches for the key at the other end ([`Dial`]). What a
//! connection of this purpose carries is settled here: a [greeting](wire::Greeting) by which both ends
//! make sure that they belong to one cluster and that neither forgot what it was, and then one stream
//! for each request and its answer.
//!
//! * [`links`] keeps one outgoing connection to each node and asks over it;
//! * [`client`] is openraft's network on top of that, and [`commits`] spares it messages;
//! * [`serve`] answers, and `belief` says what it takes from nobody;
//! * [`wire`] is what goes over the wire.

mod belief;
pub(crate) mod client;
pub(crate) mod commits;
pub(crate) mod links;
pub(crate) mod serve;
pub(crate) mod snapshot;
pub(crate) mod wire;

use std::io;

use peerglass_catalog::NodeEntry;
use peerglass_catalog::keyspace::BoxFuture;

/// Opens connections to other nodes.
pub trait Dial: Send + Sync + 'static {
    /// A new connection to `node` and to nobody else who may answer at its address, for Raft.
    fn dial<'a>(&'a self, node: &'a NodeEntry) -> BoxFuture<'a, io::Result<quinn::Connection>>;
}
