//! Connections to other nodes, for the parts of this one.
//!
//! A node that was seen elsewhere than the catalog says is tried there as well. Wherever it answers, it has
//! to prove its key, so a false sighting costs a packet and nothing else.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use peerglass_catalog::NodeEntry;
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_consensus::Dial;
use quinn::Connection;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsStream;

use super::port::{DialError, PeerPort, Purpose};
use super::tcp::Buffered;
use crate::discovery::Sightings;

/// How long the address of the catalog is tried alone. Most callers wait for a second in all.
const HEAD_START: Duration = Duration::from_millis(100);

/// Opens connections through the peer port.
#[derive(Clone)]
pub(crate) struct Dialer {
    port: PeerPort,
    sightings: Sightings,
}

impl Dialer {
    /// `sightings` says where nodes were seen, beside what their entries say.
    pub(crate) fn new(port: PeerPort, sightings: Sightings) -> Self {
        Self { port, sightings }
    }

    /// Whether [`connect_tcp`](Self::connect_tcp) may work at all.
    pub(crate) fn has_tcp(&self) -> bool {
        self.port.has_tcp()
    }

    /// A new connection to `node`.
    pub(crate) async fn connect(&self, node: &NodeEntry, purpose: Purpose) -> Result<Connection, DialError> {
        let (port, key) = (self.port.clone(), node.key);
        self.at_each(node, move |address| {
            let port = port.clone();
            async move { port.dial(key, address, purpose).await }
        })
        .await
    }

    /// A new connection to `node` for image bytes, over TCP.
    pub(crate) async fn connect_tcp(&self, node: &NodeEntry) -> Result<TlsStream<Buffered>, DialError> {
        let (port, key) = (self.port.clone(), node.key);
        self.at_each(node, move |address| {
            let port = port.clone();
            async move { port.dial_tcp(key, address).await }
        })
        .await
    }

    /// Dial wherever the node may be, until it answers somewhere.
    async fn at_each<T: Send + 'static, F>(
        &self,
        node: &NodeEntry,
        dial: impl Fn(SocketAddr) -> F + Clone + Send + Sync + 'static,
    ) -> Result<T, DialError>
    where
        F: Future<Output = Result<T, DialError>> + Send + 'static,
    {
        let seen = self.sightings.of(node.key);
        if seen.is_empty() {
            return dial(resolve(&node.address).await?).await;
        }
        // Those that lose end when this is dropped.
        let mut dials = JoinSet::new();
        for (at, address) in std::iter::once(node.address.clone()).chain(seen).enumerate() {
            let dial = dial.clone();
            dials.spawn(async move {
                if at > 0 {
                    sleep(HEAD_START).await;
                }
                dial(resolve(&address).await?).await
            });
        }
        let mut failure = DialError::Timeout;
        while let Some(dialled) = dials.join_next().await {
            match dialled {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => failure = error,
                Err(error) => tracing::error!(%error, "a dial panicked"),
            }
        }
        Err(failure)
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
