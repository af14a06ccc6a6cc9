//! Several nodes' byte paths, connected by QUIC over the loopback device.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{ImageId, ManifestRoot, NodeId};
use peerglass_transfer::{
    Connection, Keepers, OpenError, PeerError, Peers, Place, Since, Transfer, TransferDisk, TransferSettings,
    Workers,
};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig, TransportConfig};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Memory;
use super::raw::Asking;
use super::tcp::{self, Tcp};

const ALPN: &[u8] = b"peerglass-chunks/1";

/// What all endpoints of a test share: one certificate that they all trust.
pub(crate) struct Network {
    server: ServerConfig,
    client: ClientConfig,
    addresses: Mutex<BTreeMap<NodeId, SocketAddr>>,
    /// Where nodes listen for TCP, if they do.
    tcp: Option<Arc<tcp::Addresses>>,
}

impl Network {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::of_quic())
    }

    fn of_quic() -> Self {
        let own = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.key_pair.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = &[&rustls::version::TLS13];
        let server = rustls::ServerConfig::builder_with_provider(provider.clone());
        let server = server.with_protocol_versions(versions).unwrap().with_no_client_auth();
        let mut server = server.with_single_cert(vec![own.cert.der().clone()], key.into()).unwrap();
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider);
        let client = client.with_protocol_versions(versions).unwrap();
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![ALPN.to_vec()];
        // As nodes do it: a packet that says goodbye may be lost like any other.
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(1)));
        transport.max_idle_timeout(Some(Duration::from_secs(3).try_into().unwrap()));
        let transport = Arc::new(transport);
        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
        server.transport_config(Arc::clone(&transport));
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
        client.transport_config(transport);
        Self { server, client, addresses: Mutex::default(), tcp: None }
    }

    /// One in which bytes go over TCP.
    pub(crate) fn of_tcp() -> Arc<Self> {
        Arc::new(Self { tcp: Some(Arc::default()), ..Self::of_quic() })
    }

    /// A socket, known as that of `node`.
    pub(crate) fn endpoint(&self, node: NodeId) -> Endpoint {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut endpoint = Endpoint::server(self.server.clone(), any).unwrap();
        endpoint.set_default_client_config(self.client.clone());
        self.addresses.lock().unwrap().insert(node, endpoint.local_addr().unwrap());
        endpoint
    }

    /// Both networks, each of its own.
    pub(crate) fn each() -> [Arc<Self>; 2] {
        [Self::new(), Self::of_tcp()]
    }

    /// What its bytes go over.
    pub(crate) fn name(&self) -> &'static str {
        if self.tcp.is_some() { "TCP" } else { "QUIC" }
    }

    /// A connection from `node`, whose socket `endpoint` is, to `peer`, without a byte path on it.
    pub(crate) async fn ask(&self, node: NodeId, endpoint: &Endpoint, peer: NodeId) -> Asking {
        match &self.tcp {
            Some(addresses) => Asking::tcp(addresses.dial(node, peer).await.unwrap()).await.unwrap(),
            None => Asking::Quic(self.connect(endpoint, peer).await.unwrap()),
        }
    }

    /// Where `node` is called over TCP, if it is.
    pub(super) async fn listen(&self, node: NodeId) -> Option<TcpListener> {
        match &self.tcp {
            Some(addresses) => Some(addresses.listen(node).await),
            None => None,
        }
    }

    /// Whose socket that is.
    fn node_at(&self, address: SocketAddr) -> NodeId {
        let addresses = self.addresses.lock().unwrap();
        *addresses.iter().find(|(_, of)| **of == address).unwrap().0
    }

    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        peer: NodeId,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        let address = self.addresses.lock().unwrap()[&peer];
        endpoint.connect(address, "node").unwrap().await
    }
}

/// The peers of one node: those it was told of, over one connection each.
pub(crate) struct Known {
    me: NodeId,
    network: Arc<Network>,
    endpoint: Endpoint,
    pub(crate) candidates: Mutex<Vec<NodeId>>,
    /// Who is to keep every manifest; `None` where that cannot be known.
    pub(crate) keepers: Mutex<Option<Keepers>>,
    /// Whether no newest state can be had.
    cut_off: AtomicBool,
    connections: tokio::sync::Mutex<BTreeMap<NodeId, quinn::Connection>>,
    tcp: Option<Tcp>,
}

impl Known {
    pub(crate) fn cut_off(&self) {
        self.cut_off.store(true, Ordering::Relaxed);
    }

    /// Bytes that came over connections this node has opened.
    pub(crate) async fn received_bytes(&self) -> u64 {
        self.connections.lock().await.values().map(|connection| connection.stats().udp_rx.bytes).sum()
    }

    /// Those of them that came from one peer.
    pub(crate) async fn received_from(&self, peer: NodeId) -> u64 {
        let connections = self.connections.lock().await;
        connections.get(&peer).map_or(0, |connection| connection.stats().udp_rx.bytes)
    }
}

impl Peers for Known {
    fn candidates(&self) -> Vec<NodeId> {
        self.candidates.lock().unwrap().clone()
    }

    fn me(&self) -> NodeId {
        self.me
    }

    fn place(&self, _: NodeId) -> Place {
        Place::default()
    }

    fn keepers(&self, _: ManifestRoot, since: Since) -> BoxFuture<'_, Option<Keepers>> {
        let keepers = self.keepers.lock().unwrap().clone();
        let late = |keepers: &Keepers| match since {
            Since::Whenever => false,
            Since::Entry(at) => at > keepers.at,
            Since::Now => self.cut_off.load(Ordering::Relaxed),
        };
        Box::pin(std::future::ready(keepers.filter(|keepers| !late(keepers))))
    }

    fn homes(&self, _: &ImageId) -> Vec<NodeId> {
        self.keepers.lock().unwrap().as_ref().map_or_else(Vec::new, |keepers| keepers.nodes.clone())
    }

    fn connect(&self, peer: NodeId) -> BoxFuture<'_, Result<Connection, PeerError>> {
        Box::pin(async move {
            if let Some(tcp) = &self.tcp {
                return tcp.connect(peer).await;
            }
            let mut connections = self.connections.lock().await;
            if let Some(open) = connections.get(&peer).filter(|open| open.close_reason().is_none()) {
                return Ok(open.clone().into());
            }
            let made = self.network.connect(&self.endpoint, peer).await;
            let made = made.map_err(|reason| PeerError::Unreachable { peer, reason: reason.into() })?;
            connections.insert(peer, made.clone());
            Ok(made.into())
        })
    }
}

/// One node's byte path and its answers to others.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) memory: Memory,
    pub(crate) transfer: Transfer,
    pub(crate) peers: Arc<Known>,
    endpoint: Endpoint,
    serving: Mutex<JoinSet<()>>,
}

impl Node {
    pub(crate) async fn start(network: &Arc<Network>, id: u64, candidates: &[u64], workers: Workers) -> Self {
        Self::start_set(network, id, candidates, workers, TransferSettings::default()).await
    }

    /// The same, with settings.
    pub(crate) async fn start_set(
        network: &Arc<Network>,
        id: u64,
        candidates: &[u64],
        workers: Workers,
        settings: TransferSettings,
    ) -> Self {
        let memory = Memory::new();
        let disk = (memory.disk(), settings);
        let started = Self::start_with(network, id, candidates, workers, disk).await.unwrap();
        Self { memory, ..started }
    }

    /// Start on a disk of the caller's. `memory` is none of it.
    pub(crate) async fn start_on(
        network: &Arc<Network>,
        id: u64,
        candidates: &[u64],
        workers: Workers,
        disk: TransferDisk,
    ) -> Result<Self, OpenError> {
        Self::start_with(network, id, candidates, workers, (disk, TransferSettings::default())).await
    }

    /// The same, with settings as well.
    pub(crate) async fn start_with(
        network: &Arc<Network>,
        id: u64,
        candidates: &[u64],
        workers: Workers,
        (disk, settings): (TransferDisk, TransferSettings),
    ) -> Result<Self, OpenError> {
        let id = NodeId(id);
        let endpoint = network.endpoint(id);
        let peers = Arc::new(Known {
            me: id,
            network: Arc::clone(network),
            endpoint: endpoint.clone(),
            candidates: Mutex::new(candidates.iter().copied().map(NodeId).collect()),
            keepers: Mutex::new(Some(Keepers::default())),
            cut_off: AtomicBool::new(false),
            connections: tokio::sync::Mutex::default(),
            tcp: network.tcp.as_ref().map(|addresses| Tcp::new(id, addresses)),
        });
        let known: Arc<dyn Peers> = peers.clone();
        let transfer = Transfer::open(settings, disk, workers, id.0, Some(known)).await?;
        let mut serving = JoinSet::new();
        serving.spawn(accept(Arc::clone(network), endpoint.clone(), transfer.clone()));
        if let Some(listener) = network.listen(id).await {
            serving.spawn(tcp::serve(listener, transfer.clone()));
        }
        Ok(Self { id, memory: Memory::new(), transfer, peers, endpoint, serving: Mutex::new(serving) })
    }

    /// Be gone, as after a power cut.
    pub(crate) fn kill(&self) {
        self.endpoint.close(0_u32.into(), b"");
        self.serving.lock().unwrap().abort_all();
    }
}

async fn accept(network: Arc<Network>, endpoint: Endpoint, transfer: Transfer) {
    let mut connections = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let (network, transfer) = (Arc::clone(&network), transfer.clone());
        connections.spawn(async move {
            if let Ok(connection) = incoming.await {
                let peer = network.node_at(connection.remote_address());
                transfer.serve_peer(connection, peer).await;
            }
        });
    }
}

/// `count` nodes, numbered from 1, that all know each other.
pub(crate) async fn nodes(network: &Arc<Network>, count: u64, workers: Workers) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in 1..=count {
        let others: Vec<u64> = (1..=count).filter(|other| *other != id).collect();
        nodes.push(Node::start(network, id, &others, workers).await);
    }
    nodes
}
