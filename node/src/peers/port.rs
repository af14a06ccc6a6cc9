//! The peer port: one UDP port for everything nodes say to each other, and the TCP port of the same number
//! for image bytes, where there is one.
//!
//! What a connection is for is its ALPN. Every limit that a stranger can reach is set here: handshakes,
//! buffers, streams, windows, idle time. Keys for stateless resets and connection ids come from the
//! node's key, so that peers of a restarted node notice at its first packet and not when they run out
//! of patience.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use peerglass_catalog::PeerKey;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncUdpSocket, ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    IdleTimeout, ServerConfig, TransportConfig, VarInt,
};
use quinn_proto::{HashedConnectionIdGenerator, TimeSource};
use rustls::crypto::CryptoProvider;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsStream;

use super::certificate::{self, CertificateError, Certified, owner};
use super::key::NodeKey;
use super::{tcp, tls};

/// What a connection between nodes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Raft messages and forwarded requests.
    Raft,
    /// Image bytes.
    Chunks,
    /// A node that wants to become a member.
    Join,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Raft, Self::Chunks, Self::Join];

    /// Its ALPN.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Raft => b"peerglass-raft/1",
            Self::Chunks => b"peerglass-chunks/1",
            Self::Join => b"peerglass-join/1",
        }
    }

    fn of_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.alpn() == alpn)
    }
}

/// Where the port's chance comes from.
#[derive(Clone, Debug)]
pub enum PortChance {
    /// The operating system.
    System,
    /// A seed, and a TLS that draws from one as well, so that a simulation repeats to the byte.
    Seeded(u64, Arc<CryptoProvider>),
}

impl PortChance {
    fn provider(&self) -> CryptoProvider {
        match self {
            Self::System => rustls::crypto::ring::default_provider(),
            Self::Seeded(_, provider) => CryptoProvider::clone(provider),
        }
    }
}

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS refuses its settings.
    #[error("cannot set up TLS for the peer port: {0}")]
    Tls(#[from] rustls::Error),
    /// TLS has no cipher for QUIC.
    #[error("cannot set up QUIC for the peer port: {0}")]
    Quic(#[from] NoInitialCipherSuite),
    /// The socket.
    #[error("cannot use the socket of the peer port: {0}")]
    Socket(#[from] std::io::Error),
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address does not resolve.
    #[error("cannot find {address}: {reason}")]
    Unresolved {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// TLS or QUIC settings.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The endpoint does not dial any more.
    #[error("cannot dial: {0}")]
    Connect(#[from] quinn::ConnectError),
    /// No connection came about.
    #[error("no connection: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// None came about over TCP.
    #[error("no connection over TCP: {0}")]
    Tcp(#[from] std::io::Error),
    /// It took too long.
    #[error("no connection in time")]
    Timeout,
}

/// How long a connection may take to come about.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The same over TCP, beside which QUIC is tried before it is over: as long as the other side shakes hands.
const TCP_DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence after which a connection is given up. A peer that died says nothing.
const IDLE_TIMEOUT_MS: u32 = 3_000;
/// How often an idle connection proves that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Streams a peer may have open at once in each direction.
const STREAMS_MAX: u32 = 64;
/// Bytes a peer may send on one stream before they are read.
const STREAM_WINDOW_BYTES: u32 = 1_310_720;
/// Bytes a peer may send on one connection before they are read.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Handshakes that may be under way at once.
const HANDSHAKES_MAX: usize = 1_024;
/// Bytes kept for a handshake that was not looked at yet, and for all of them.
const HANDSHAKE_BYTES_MAX: u64 = 64 << 10;
const HANDSHAKES_BYTES_MAX: u64 = 16 << 20;

/// The peer port of one node. Clones share it.
#[derive(Clone)]
pub struct PeerPort {
    endpoint: Endpoint,
    provider: Arc<CryptoProvider>,
    certified: Arc<Certified>,
    transport: Arc<TransportConfig>,
    tcp: Option<Arc<TcpListener>>,
    first_ids: Option<Arc<Mutex<SeededIds>>>,
}

impl PeerPort {
    /// Open the port on `socket` for the node with `key`.
    pub fn new(
        key: &NodeKey,
        socket: Arc<dyn AsyncUdpSocket>,
        chance: PortChance,
    ) -> Result<Self, PortError> {
        let certified = Arc::new(certificate::make(key)?);
        let transport = Arc::new(transport());
        let provider = tls::fast_ciphers(chance.provider());
        let mut server = server_config(Arc::clone(&provider), key, &certified)?;
        server.transport_config(Arc::clone(&transport));
        let reset_key = key.derive("peerglass 2026-11-24 stateless reset key");
        let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &reset_key);
        let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
        let mut first_ids = None;
        match chance {
            PortChance::System => {
                let [a, b, c, d, e, f, g, h, ..] = key.derive("peerglass 2026-11-24 connection id key");
                let ids_key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids_key)));
            }
            PortChance::Seeded(seed, _) => {
                server.time_source(Arc::new(NoTime));
                endpoint
                    .rng_seed(Some(blake3::derive_key("peerglass simulated endpoint", &seed.to_le_bytes())));
                endpoint.cid_generator(move || Box::new(SeededIds::new(seed, 8)));
                first_ids = Some(Arc::new(Mutex::new(SeededIds::new(seed ^ 1, 20))));
            }
        }
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new_with_abstract_socket(endpoint, Some(server), socket, runtime)?;
        Ok(Self { endpoint, provider, certified, transport, tcp: None, first_ids })
    }

    /// Accept connections for image bytes at `listener` as well, and try TCP first for those that are dialled.
    pub fn with_tcp(self, listener: TcpListener) -> Self {
        Self { tcp: Some(Arc::new(listener)), ..self }
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Connect to `peer` at `address`, and to nobody else who may answer there.
    ///
    /// # Errors
    ///
    /// When nobody answers within a second, somebody else does, or the port is closed.
    pub async fn dial(
        &self,
        peer: PeerKey,
        address: SocketAddr,
        purpose: Purpose,
    ) -> Result<Connection, DialError> {
        let mut config = client_config(Arc::clone(&self.provider), &self.certified, peer, purpose)?;
        config.transport_config(Arc::clone(&self.transport));
        if let Some(ids) = self.first_ids.clone() {
            config.initial_dst_cid_provider(Arc::new(move || {
                ids.lock().unwrap_or_else(PoisonError::into_inner).generate_cid()
            }));
        }
        let connecting = self.endpoint.connect_with(config, address, "peerglass")?;
        let connected = tokio::time::timeout(DIAL_TIMEOUT, connecting).await;
        connected.map_err(|_| DialError::Timeout)?.map_err(DialError::Connection)
    }
}

/// The side of TCP, for image bytes alone.
impl PeerPort {
    /// Where connections come from; never, where there is no TCP.
    pub(super) async fn accept_tcp(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        match &self.tcp {
            Some(listener) => listener.accept().await,
            None => std::future::pending().await,
        }
    }

    /// Whether TCP is to be tried.
    pub(super) fn has_tcp(&self) -> bool {
        self.tcp.is_some()
    }

    /// Shake hands with whoever opened `stream`. Answers with who it proved to be.
    pub(super) async fn greet_tcp(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<tcp::Buffered>, PeerKey), DialError> {
        let alpns = [Purpose::Chunks.alpn()];
        let tls = tls::server(Arc::clone(&self.provider), &self.certified, &alpns).map_err(PortError::Tls)?;
        Ok(tcp::greet(stream, tls).await?)
    }

    /// Connect to `peer` at `address` over TCP, and to nobody else who may answer there.
    ///
    /// # Errors
    ///
    /// When nobody answers within two seconds or somebody else does.
    pub async fn dial_tcp(
        &self,
        peer: PeerKey,
        address: SocketAddr,
    ) -> Result<TlsStream<tcp::Buffered>, DialError> {
        let alpn = Purpose::Chunks.alpn();
        let tls = tls::client(Arc::clone(&self.provider), &self.certified, peer, alpn);
        let tls = tls.map_err(PortError::Tls)?;
        let dialled = tokio::time::timeout(TCP_DIAL_TIMEOUT, tcp::dial(address, tls)).await;
        Ok(dialled.map_err(|_| DialError::Timeout)??)
    }
}

/// Who called, and what for, of a connection that was accepted.
pub(super) fn caller(connection: &Connection) -> Option<(PeerKey, Purpose)> {
    let handshake = connection.handshake_data()?;
    let handshake = handshake.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    let purpose = Purpose::of_alpn(handshake.protocol.as_deref()?)?;
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok()?;
    Some((owner(chain.first()?)?, purpose))
}

/// Where a simulation keeps its own time, address tokens must not tell the machine's.
struct NoTime;

impl TimeSource for NoTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

fn server_config(
    provider: Arc<CryptoProvider>,
    key: &NodeKey,
    certified: &Certified,
) -> Result<ServerConfig, PortError> {
    let alpns = Purpose::ALL.map(Purpose::alpn);
    let tls = tls::server(provider, certified, &alpns)?;
    let tls = Arc::new(QuicServerConfig::try_from(tls)?);
    let token_key = key.derive("peerglass 2026-11-24 address token key");
    let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&token_key);
    let mut config = ServerConfig::new(tls, Arc::new(token_key));
    config.max_incoming(HANDSHAKES_MAX);
    config.incoming_buffer_size(HANDSHAKE_BYTES_MAX);
    config.incoming_buffer_size_total(HANDSHAKES_BYTES_MAX);
    config.migration(false);
    Ok(config)
}

fn client_config(
    provider: Arc<CryptoProvider>,
    certified: &Certified,
    peer: PeerKey,
    purpose: Purpose,
) -> Result<ClientConfig, PortError> {
    let tls = tls::client(provider, certified, peer, purpose.alpn())?;
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    transport
}

/// Connection ids from a seed.
struct SeededIds {
    stream: blake3::OutputReader,
    len: usize,
}

impl SeededIds {
    fn new(seed: u64, len: usize) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("peerglass simulated connection ids");
        hash.update(&seed.to_le_bytes());
        Self { stream: hash.finalize_xof(), len }
    }
}

impl ConnectionIdGenerator for SeededIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 20];
        self.stream.fill(&mut id[..self.len]);
        ConnectionId::new(&id[..self.len])
    }

    fn cid_len(&self) -> usize {
        self.len
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
