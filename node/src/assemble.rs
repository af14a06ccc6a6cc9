//! Puts the parts of a node together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use peerglass_api::{Api, ApiParts};
use peerglass_catalog::keyspace::{Direction, KeyRange, Keyspace};
use peerglass_catalog::{Fault, NodeEntry, NodeRole};
use peerglass_consensus::{Consensus, ConsensusDisk, ConsensusError, ConsensusSettings, Dial, OpenError};
use peerglass_transfer::{Peers, Transfer, TransferDisk, TransferSettings};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::attendance::Attendance;
use crate::cache::Cache;
use crate::config::{Settings, StorageSection};
use crate::discovery::{Discovery, Lookout, Sightings};
use crate::homes::Homes;
use crate::keeping::Keeping;
use crate::lock::DataDirLock;
use crate::maintenance::Maintenance;
use crate::peers::{BytePeers, Dialer, Doors, NodeKey, PeerPort};
use crate::scrub::Scrub;
use crate::sign_in::{SignIn, UsersError};
use crate::surroundings::Surroundings;

/// A running node.
pub struct Node {
    api: Api,
    consensus: Consensus,
    transfer: Transfer,
    sign_in: SignIn,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// The peer port outlives the API: whoever stops still hands over.
    stop_peers: CancellationToken,
    peers: JoinSet<()>,
    byte_peers: Option<Arc<BytePeers>>,
    /// Released last, when nothing writes to the directory any more.
    _lock: Option<DataDirLock>,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There are packs but no log. Whatever named their bytes is gone, and a fresh catalog would have
    /// them all reclaimed.
    #[error(
        "there are packs, but the Raft log is empty: the records of these images are gone; restore `raft` from a \
         backup of this data directory, or start with an empty one"
    )]
    RecordsGone,
    /// The packs or the log cannot be read.
    #[error("cannot look into the data directory: {0}")]
    Unreadable(#[from] Fault),
    /// The log or the catalog.
    #[error("cannot start consensus: {0}")]
    Consensus(#[from] OpenError),
    /// The chunks.
    #[error("cannot open the chunk store: {0}")]
    Transfer(#[from] peerglass_transfer::OpenError),
    /// The file of users.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// Other nodes could not reach this one.
    #[error("{0} is no address that other nodes can use; set cluster.advertise (--advertise ADDRESS:PORT)")]
    Unreachable(String),
}

/// Why a running node has to end. What was acknowledged is safe; the next start reads what is there.
#[derive(Debug, thiserror::Error)]
pub enum NodeFailure {
    /// The log or the catalog.
    #[error(transparent)]
    Consensus(ConsensusError),
    /// The index of the chunks.
    #[error("the chunk index could not be written or made durable; this node's disk cannot be trusted")]
    ChunkIndex,
}

/// Start a node with these settings in these surroundings.
///
/// When it returns, the API accepts requests, but no uploads before those of the last run of this node
/// have been given up, which needs a majority of the cluster.
pub async fn assemble<L>(settings: &Settings, surroundings: Surroundings<L>) -> Result<Node, StartError>
where
    L: Listener<Addr = SocketAddr>,
{
    let Surroundings { wall_clock, seed, api_listener, key, peers, discovery, disk, workers, lock } =
        surroundings;
    let sign_in = SignIn::new(&settings.auth)?;
    if is_empty(&*disk.log)? && !disk.packs.list().map_err(Fault::Io)?.is_empty() {
        return Err(StartError::RecordsGone);
    }
    let entry = entry(settings, &key, peers.is_some())?;
    let sightings = Sightings::default();
    let dialer = peers.clone().map(|port| Dialer::new(port, sightings.clone()));
    let reached = entry.address.clone();
    let consensus = Consensus::open(
        consensus_settings(settings, entry),
        ConsensusDisk { log: disk.log, state: disk.state },
        dialer.clone().map(|dialer| Arc::new(dialer) as Arc<dyn Dial>),
        seed,
    )
    .await?;
    let homes = Homes::new(consensus.clone(), settings.cluster.copies);
    let byte_peers = dialer.map(|dialer| BytePeers::new(consensus.clone(), homes.clone(), dialer));
    let transfer = Transfer::open(
        transfer_settings(&settings.storage),
        TransferDisk { packs: disk.packs, index: disk.index },
        workers,
        seed ^ TRANSFER_SEED,
        byte_peers.clone().map(|peers| peers as Arc<dyn Peers>),
    );
    let transfer = opened(transfer.await, &consensus).await?;
    if let Some(peers) = &byte_peers {
        peers.answer_with(&transfer);
    }
    let api = Api::new(ApiParts {
        consensus: consensus.clone(),
        transfer: transfer.clone(),
        settings: settings.for_api(),
        auth: sign_in.auth(),
        now: Arc::clone(&wall_clock),
        seed: seed ^ API_SEED,
    });
    api.hold_uploads();
    let (stop, stop_peers) = (CancellationToken::new(), CancellationToken::new());
    let doors = peers.map(|port| {
        let now = Arc::clone(&wall_clock);
        let door = Doors { consensus: consensus.clone(), transfer: transfer.clone(), now };
        let lookout = Lookout { consensus: consensus.clone(), sightings, address: reached };
        open_doors((door, port), discovery.map(|discovery| (lookout, discovery)), &stop_peers)
    });
    let mut tasks = JoinSet::new();
    let maintenance = Maintenance {
        api: api.clone(),
        consensus: consensus.clone(),
        transfer: transfer.clone(),
        interval: Duration::from_secs(settings.storage.reclaim_interval_s),
        now: Arc::clone(&wall_clock),
    };
    // Alone, the node leads in a moment, and nobody has to be told to try again.
    if consensus.is_member(consensus.node()) && consensus.others().is_empty() {
        maintenance.give_up_uploads().await;
    }
    tasks.spawn(peerglass_api::serve(api_listener, api.clone(), stop.clone()));
    tasks.spawn(maintenance.run(stop.clone()));
    if byte_peers.is_some() {
        let out_after = Duration::from_secs(settings.cluster.out_after_s);
        tasks
            .spawn(Attendance { consensus: consensus.clone(), out_after, now: wall_clock }.run(stop.clone()));
        tasks.spawn(Keeping::new(&consensus, &transfer, homes).run(stop.clone()));
    }
    look_after_bytes(&mut tasks, settings, &transfer, &stop);
    let peers = doors.unwrap_or_default();
    Ok(Node { api, consensus, transfer, sign_in, stop, tasks, stop_peers, peers, byte_peers, _lock: lock })
}

/// This node as others should know it.
fn entry(settings: &Settings, key: &NodeKey, has_port: bool) -> Result<NodeEntry, StartError> {
    let address = settings.cluster.reachable().map_err(StartError::Unreachable)?.unwrap_or_default();
    Ok(NodeEntry {
        key: key.peer_key(),
        address: if has_port { address } else { String::new() },
        site: settings.cluster.site.clone(),
        rack: settings.cluster.rack.clone(),
        role: NodeRole::Voter,
    })
}

fn consensus_settings(settings: &Settings, entry: NodeEntry) -> ConsensusSettings {
    ConsensusSettings {
        snapshot_entries: settings.raft.snapshot_entries,
        log_entries_kept: settings.raft.log_entries_kept,
        snapshot_bytes_per_s: settings.cluster.snapshot_bytes_per_s,
        voters: settings.cluster.voters as usize,
        entry,
    }
}

/// The byte path, or why it did not open.
async fn opened(
    transfer: Result<Transfer, peerglass_transfer::OpenError>,
    consensus: &Consensus,
) -> Result<Transfer, StartError> {
    if transfer.is_err() {
        // Raft runs already. Left to itself it would report its own end as if that were the trouble.
        consensus.stop().await;
    }
    Ok(transfer?)
}

fn transfer_settings(storage: &StorageSection) -> TransferSettings {
    TransferSettings {
        uploads_max: usize::try_from(storage.uploads_max).unwrap_or(usize::MAX),
        part_bytes: storage.part_kib.saturating_mul(1 << 10),
        checkpoint_bytes: storage.checkpoint_kib.saturating_mul(1 << 10),
        resume_within: Duration::from_secs(storage.resume_within_s),
    }
}

/// Read again what is kept, and let go of what need not be, as the settings say.
fn look_after_bytes(
    tasks: &mut JoinSet<()>,
    settings: &Settings,
    transfer: &Transfer,
    stop: &CancellationToken,
) {
    let storage = &settings.storage;
    if storage.scrub_mib_per_s > 0 {
        let bytes_per_s = storage.scrub_mib_per_s.saturating_mul(1 << 20);
        tasks.spawn(Scrub { transfer: transfer.clone(), bytes_per_s }.run(stop.clone()));
    }
    if storage.cache_max_mib > 0 {
        let cache = Cache {
            transfer: transfer.clone(),
            bytes_max: storage.cache_max_mib.saturating_mul(1 << 20),
            interval: Duration::from_secs(storage.reclaim_interval_s),
        };
        tasks.spawn(cache.run(stop.clone()));
    }
}

/// Let others in, and look for them.
fn open_doors(
    (door, port): (Doors, PeerPort),
    lookout: Option<(Lookout, Box<dyn Discovery>)>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(door.run(port, stop.clone()));
    if let Some((lookout, discovery)) = lookout {
        tasks.spawn(lookout.run(discovery, stop.clone()));
    }
    tasks
}

/// Keep the generators of the parts apart; any odd-looking constants will do.
const TRANSFER_SEED: u64 = 0x7452_414e_5346_4552;
const API_SEED: u64 = 0x4150_495f_5345_4544;

/// How long requests may take to learn that a node whose disk failed ends. Downloads among them are cut.
const GIVE_UP_WAIT: Duration = Duration::from_secs(2);

impl Node {
    /// Resolves when the node can no longer do its work and has to end.
    pub async fn failed(&self) -> NodeFailure {
        tokio::select! {
            biased;
            error = self.consensus.ended() => NodeFailure::Consensus(error),
            () = self.transfer.failed() => NodeFailure::ChunkIndex,
        }
    }

    /// What this node agreed on with others, for whoever watches it.
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// The chunks of this node, for whoever watches it.
    pub fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// Read the users again. If their file cannot be used, that is logged and those of before stay.
    pub fn reload(&self) {
        self.sign_in.reload();
    }

    /// Hand over the leadership, drain the API, then end transfers, then Raft. What was acknowledged is durable already;
    /// stopping in order only spares the clients an error and the next start some work.
    pub async fn stop(mut self) {
        // Balancers look elsewhere while the node still answers.
        self.api.start_draining();
        // Before it stops answering: nobody has to wait for an election.
        self.consensus.hand_over().await;
        self.stop.cancel();
        self.tasks_ended().await;
        self.bytes_ended().await;
        self.consensus.stop().await;
        self.close().await;
    }

    /// End after a [failure](Self::failed): close the door first, because whoever is let in gets no answer
    /// but 503. No leadership is handed over by a node that cannot write, and Raft ends before the requests
    /// do, which then need not wait for it.
    pub async fn give_up(mut self) {
        self.api.start_draining();
        self.stop.cancel();
        self.consensus.stop().await;
        if timeout(GIVE_UP_WAIT, self.tasks_ended()).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.bytes_ended().await;
        self.close().await;
    }

    async fn tasks_ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the node panicked");
            }
        }
    }

    async fn bytes_ended(&self) {
        self.transfer.stop().await;
        if let Some(peers) = &self.byte_peers {
            peers.stop().await;
        }
    }

    /// Shut the port that others reach this node by.
    async fn close(mut self) {
        self.stop_peers.cancel();
        while let Some(ended) = self.peers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the task of the peer port panicked");
            }
        }
        tracing::info!("stopped");
    }
}

/// An answer to a peer holds the byte path, which holds its peers, which hold the answers: a node that is
/// dropped must not keep its disk and its port for that.
impl Drop for Node {
    fn drop(&mut self) {
        if let Some(peers) = &self.byte_peers {
            peers.forget();
        }
    }
}

/// Whether nothing was ever written to it. A node writes its id to the log before anything else.
fn is_empty(log: &dyn Keyspace) -> Result<bool, Fault> {
    let everything = KeyRange { from: Vec::new(), to: None };
    Ok(log.scan(everything, Direction::Ascending).next().transpose()?.is_none())
}
