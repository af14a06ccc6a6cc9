//! Connections over TCP, without the TLS that `node` puts below them.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use peerglass_catalog::NodeId;
use peerglass_transfer::{Calls, Connection, PeerError, Transfer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Where each node listens.
#[derive(Default)]
pub(crate) struct Addresses(Mutex<BTreeMap<NodeId, SocketAddr>>);

impl Addresses {
    #[allow(clippy::disallowed_methods, reason = "a test is its own surroundings")]
    pub(super) async fn listen(&self, node: NodeId) -> TcpListener {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        self.0.lock().unwrap().insert(node, listener.local_addr().unwrap());
        listener
    }

    /// A connection from `me` to `peer`, on which it was said who calls.
    pub(super) async fn dial(&self, me: NodeId, peer: NodeId) -> io::Result<TcpStream> {
        let address = self.0.lock().unwrap()[&peer];
        let mut stream = TcpStream::connect(address).await?;
        stream.write_u64(me.0).await?;
        Ok(stream)
    }
}

/// The connections one node has opened.
pub(super) struct Tcp {
    me: NodeId,
    addresses: Arc<Addresses>,
    open: tokio::sync::Mutex<(BTreeMap<NodeId, Connection>, JoinSet<()>)>,
}

impl Tcp {
    pub(super) fn new(me: NodeId, addresses: &Arc<Addresses>) -> Self {
        Self { me, addresses: Arc::clone(addresses), open: tokio::sync::Mutex::default() }
    }

    pub(super) async fn connect(&self, peer: NodeId) -> Result<Connection, PeerError> {
        let mut open = self.open.lock().await;
        if let Some(connection) = open.0.get(&peer).filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let unreachable = |reason: io::Error| PeerError::Unreachable { peer, reason: reason.into() };
        let stream = self.addresses.dial(self.me, peer).await.map_err(unreachable)?;
        let (connection, carry) = Connection::over_tcp(stream).await.map_err(unreachable)?;
        open.1.spawn(carry);
        open.0.insert(peer, connection.clone());
        Ok(connection)
    }
}

/// Answer what comes.
pub(super) async fn serve(listener: TcpListener, transfer: Transfer) {
    let mut connections = JoinSet::new();
    while let Some((stream, peer)) = called(&listener).await {
        let transfer = transfer.clone();
        connections.spawn(async move {
            if let Ok(calls) = Calls::over_tcp(stream).await {
                transfer.serve_peer(calls, peer).await;
            }
        });
    }
}

/// The next connection, and who calls.
pub(super) async fn called(listener: &TcpListener) -> Option<(TcpStream, NodeId)> {
    loop {
        let (mut stream, _) = listener.accept().await.ok()?;
        if let Ok(peer) = stream.read_u64().await {
            return Some((stream, NodeId(peer)));
        }
    }
}
