//! Everything a node takes from the machine it runs on.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::serve::{Listener, ListenerExt, TapIo};
use peerglass_catalog::keyspace::Keyspace;
use peerglass_catalog::{Fault, Timestamp};
use peerglass_consensus::{RocksKeyspace, RocksRole};
use peerglass_transfer::{DirectoryPacks, PackDisk, Workers};
use quinn::{AsyncUdpSocket, Runtime};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};

use crate::config::{AuthMode, ClusterSection, Settings};
use crate::discovery::{Discovery, Neighbourhood};
use crate::lock::{DataDirLock, LockError};
use crate::peers::{KeyError, NodeKey, PeerPort, PortChance, PortError};

/// Everything a node takes from the machine it runs on.
///
/// The program builds it with [`Surroundings::of_this_machine`], a simulation builds its own.
/// Nothing below [`assemble`](crate::assemble) reaches around it; `clippy.toml` forbids the calls
/// that would.
pub struct Surroundings<L> {
    /// Wall time, for the times in records. Waiting uses `tokio::time`.
    pub wall_clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Seeds every generator of this node: ids, election time-outs.
    pub seed: u64,
    /// Accepts API connections.
    pub api_listener: L,
    /// Who this node is to others.
    pub key: NodeKey,
    /// Where it meets them; `None` for a node that talks to nobody.
    pub peers: Option<PeerPort>,
    /// Finds other nodes; `None` where nobody is looked for.
    pub discovery: Option<Box<dyn Discovery>>,
    /// Where everything durable goes.
    pub disk: Disk,
    /// Whether hashing and reading run on threads of their own or on the task that asks.
    pub workers: Workers,
    /// Held while the node runs; `None` where nobody else could come along.
    pub lock: Option<DataDirLock>,
}

/// The four places a node writes to.
#[derive(Clone)]
pub struct Disk {
    /// The Raft log.
    pub log: Arc<dyn Keyspace>,
    /// The catalog.
    pub state: Arc<dyn Keyspace>,
    /// Where chunks are in the packs.
    pub index: Arc<dyn Keyspace>,
    /// The chunks.
    pub packs: Arc<dyn PackDisk>,
}

/// Why this machine cannot carry a node.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The data directory cannot be made or entered.
    #[error("cannot use data directory {}: {source}", path.display())]
    DataDir {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another node has the data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The index of the packs cannot be opened. It alone can be made again.
    #[error(
        "cannot open the chunk index in {}: {source}; it can be rebuilt: move that directory away and start again",
        path.display()
    )]
    Index {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: Fault,
    },
    /// A database in it cannot be opened.
    #[error("cannot open the database in {}: {source}", path.display())]
    Database {
        /// Which database.
        path: PathBuf,
        /// Why.
        source: Fault,
    },
    /// The API's port is taken or not ours to bind.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The node's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The peer port is taken or not ours to bind.
    #[error("cannot listen for other nodes on {listen} (UDP and TCP): {source}")]
    ListenPeers {
        /// The address asked for.
        listen: String,
        /// Why.
        source: std::io::Error,
    },
    /// The peer port cannot be set up.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The operating system gave no random seed.
    #[error("cannot draw a random seed: {0}")]
    Seed(#[from] rand::rngs::SysError),
}

/// What other nodes are met at.
type PeerSockets = (Arc<dyn AsyncUdpSocket>, Option<TcpListener>);

/// Ports tried when any will do.
const ANY_PORT_TRIES: u32 = 16;

/// The API's port on this machine. Answers leave at once instead of waiting to fill a packet.
pub type ApiPort = TapIo<TcpListener, fn(&mut TcpStream)>;

impl MachineError {
    fn of_index(self) -> Self {
        if let Self::Database { path, source } = self { Self::Index { path, source } } else { self }
    }
}

impl Surroundings<ApiPort> {
    /// What this machine provides.
    ///
    /// The port is bound first and the directory locked before anything in it is opened, so a start
    /// that fails has changed nothing.
    pub async fn of_this_machine(settings: &Settings) -> Result<Self, MachineError> {
        raise_open_file_limit();
        let listen = settings.api.listen;
        #[allow(clippy::disallowed_methods, reason = "this is the seam: below it, listeners are arguments")]
        let api_listener =
            TcpListener::bind(listen).await.map_err(|source| MachineError::Listen { listen, source })?;
        let peer_sockets = bind_peer_port(&settings.cluster).await?;
        let data_dir = &settings.storage.data_dir;
        make_private_dir(data_dir)?;
        let lock = DataDirLock::take(data_dir)?;
        let mut key_seed = [0; 32];
        rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut key_seed)?;
        let key = NodeKey::load_or_create(&data_dir.join("node.key"), key_seed)?;
        let discovery = discovery(settings, &key)?;
        let disk = Disk::in_directory(data_dir)?;
        let seed = rand::TryRng::try_next_u64(&mut rand::rngs::SysRng)?;
        let peers = match peer_sockets {
            Some((udp, tcp)) => {
                let port = PeerPort::new(&key, udp, PortChance::System)?;
                Some(if let Some(tcp) = tcp { port.with_tcp(tcp) } else { port })
            }
            None => None,
        };
        Ok(Self {
            wall_clock: Arc::new(wall_clock),
            seed,
            api_listener: api_listener.tap_io(send_at_once as fn(&mut TcpStream)),
            key,
            peers,
            discovery,
            disk,
            workers: Workers::Threads,
            lock: Some(lock),
        })
    }

    /// What the program says once the node is ready.
    pub fn ready_line(&self, settings: &Settings) -> String {
        let api = self.api_listener.local_addr().unwrap_or(settings.api.listen);
        let sign_in = match settings.auth.mode {
            AuthMode::None => "no sign-in (loopback only)",
            AuthMode::HttpBasic => "http-basic sign-in",
        };
        let data = settings.storage.data_dir.display();
        let nodes = match self.peers.as_ref().and_then(|port| port.local_addr().ok()) {
            Some(address) => format!("other nodes on {address} (UDP, TCP)"),
            None => "one node".to_owned(),
        };
        format!("ready: image API on http://{api}, data in {data}, {nodes}, {sign_in}")
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the seam: below it, the port is an argument")]
async fn bind_peer_port(cluster: &ClusterSection) -> Result<Option<PeerSockets>, MachineError> {
    let listen = &*cluster.listen;
    if listen.is_empty() {
        return Ok(None);
    }
    let refused = |source| MachineError::ListenPeers { listen: listen.to_owned(), source };
    let mut tries = 0;
    loop {
        let udp = std::net::UdpSocket::bind(listen).map_err(refused)?;
        let address = udp.local_addr().map_err(refused)?;
        tries += 1;
        let tcp = if cluster.tcp { Some(TcpListener::bind(address).await) } else { None };
        match tcp.transpose() {
            Ok(tcp) => {
                let udp = quinn::TokioRuntime.wrap_udp_socket(udp).map_err(refused)?;
                return Ok(Some((udp, tcp)));
            }
            // Whatever port is free for UDP is asked for, and this one is somebody's for TCP.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && !listen.ends_with(&format!(":{}", address.port()))
                    && tries < ANY_PORT_TRIES => {}
            Err(error) => return Err(refused(error)),
        }
    }
}

/// libp2p binds its port itself, later; here is only looked whether it can. Nobody asked for a port that
/// was merely derived, so a node can do without it.
#[allow(clippy::disallowed_methods, reason = "this is the seam: below it, nobody opens a port unasked")]
fn discovery(settings: &Settings, key: &NodeKey) -> Result<Option<Box<dyn Discovery>>, MachineError> {
    let section = &settings.discovery;
    let Ok(peer_port) = settings.cluster.listen.parse::<SocketAddr>() else { return Ok(None) };
    let Some(listen) = section.listener(&settings.cluster.listen) else { return Ok(None) };
    if let Err(source) = std::net::UdpSocket::bind(listen) {
        if section.listen.is_empty() {
            tracing::warn!(%listen, %source, "other nodes are not looked for: their port is not free");
            return Ok(None);
        }
        return Err(MachineError::ListenPeers { listen: listen.to_string(), source });
    }
    Ok(Some(Box::new(Neighbourhood {
        key: key.clone(),
        listen,
        peer_port,
        mdns: section.mdns && !peer_port.ip().is_loopback(),
        bootstrap: section.bootstrap.clone(),
    })))
}

impl Disk {
    fn in_directory(data_dir: &Path) -> Result<Self, MachineError> {
        let database = |path: PathBuf, role| match RocksKeyspace::open(&path, role) {
            Ok(keyspace) => Ok(Arc::new(keyspace) as Arc<dyn Keyspace>),
            Err(source) => Err(MachineError::Database { path, source }),
        };
        make_private_dir(&data_dir.join("raft"))?;
        make_private_dir(&data_dir.join("index"))?;
        let packs = data_dir.join("packs");
        make_private_dir(&packs)?;
        Ok(Self {
            log: database(data_dir.join("raft/log"), RocksRole::Log)?,
            state: database(data_dir.join("raft/state"), RocksRole::State)?,
            index: database(data_dir.join("index"), RocksRole::Index).map_err(MachineError::of_index)?,
            packs: Arc::new(
                DirectoryPacks::open(&packs)
                    .map_err(|source| MachineError::DataDir { path: packs, source })?,
            ),
        })
    }
}

fn send_at_once(stream: &mut TcpStream) {
    // Fails only on a connection that is closed already.
    let _ = stream.set_nodelay(true);
}

/// A directory only this user may enter: it holds the bytes of private images.
fn make_private_dir(path: &Path) -> Result<(), MachineError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| MachineError::DataDir { path: path.to_owned(), source })
}

#[allow(clippy::disallowed_methods, reason = "this is the seam: the one place that reads the wall clock")]
fn wall_clock() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

/// Connections, packs and database files each take a descriptor, and the usual soft limit of 1,024
/// is there for programs that use `select`. Where it cannot be raised, the node runs with less.
fn raise_open_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%errno, "cannot raise the limit of open files");
    }
}
