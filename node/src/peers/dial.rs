//! Connections to other nodes, for the parts of this one.

use std::io;
use std::net::SocketAddr;

use peerglass_catalog::NodeEntry;
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_consensus::Dial;
use quinn::Connection;

use super::port::{DialError, PeerPort, Purpose};

/// Opens connections through the peer port.
#[derive(Clone)]
pub(crate) struct Dialer {
    port: PeerPort,
}

impl Dialer {
    pub(crate) fn new(port: PeerPort) -> Self {
        Self { port }
    }

    /// A new connection to `node`.
    pub(crate) async fn connect(&self, node: &NodeEntry, purpose: Purpose) -> Result<Connection, DialError> {
        let address = resolve(&node.address).await?;
        self.port.dial(node.key, address, purpose).await
    }
}

impl Dial for Dialer {
    fn dial<'a>(&'a self, node: &'a NodeEntry) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move { self.connect(node, Purpose::Raft).await.map_err(io::Error::other) })
    }
}

/// The first address a name has. An address in digits is taken as it is.
async fn resolve(address: &str) -> Result<SocketAddr, DialError> {
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let unresolved = |reason: String| DialError::Unresolved { address: address.to_owned(), reason };
    let mut found = tokio::net::lookup_host(address).await.map_err(|error| unresolved(error.to_string()))?;
    found.next().ok_or_else(|| unresolved("the name has no address".to_owned()))
}
