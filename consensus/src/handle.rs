//! The handle the rest of a node holds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::Fatal;
use peerglass_catalog::keyspace::Keyspace;
use peerglass_catalog::{NodeEntry, NodeId};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::{ConsensusError, OpenError};
use crate::forward::{self, Forwarded};
use crate::identity::{self, Chance, Identity};
use crate::keeper;
use crate::log::{self, Flusher, LogStore};
use crate::machine::Machine;
use crate::network::Dial;
use crate::network::client::Network;
use crate::network::links::Links;
use crate::network::serve::Receiving;
use crate::network::snapshot::Pace;
use crate::raft::{Raft, SeededRuntime, Types, Vote, config};
use crate::read::{SCANS_MAX, Waiter, barrier};
use crate::snapshot::install;
use crate::submit::InFlight;

/// How long openraft may take to read what it needs from the log.
const START_WAIT: Duration = Duration::from_secs(60);

/// How consensus behaves on this node.
#[derive(Clone, Debug)]
pub struct ConsensusSettings {
    /// Entries after which the state is made durable and the log purged.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot, for replicas that are a little late.
    pub log_entries_kept: u64,
    /// Bytes a second of a snapshot sent to another node.
    pub snapshot_bytes_per_s: u64,
    /// Voters wanted; nodes that may vote are promoted until there are that many. 0: only by hand.
    pub voters: usize,
    /// This node as others should know it, if it forms a cluster.
    pub entry: NodeEntry,
}

impl Default for ConsensusSettings {
    fn default() -> Self {
        Self {
            snapshot_entries: 20_000,
            log_entries_kept: 10_000,
            snapshot_bytes_per_s: 64 << 20,
            voters: 3,
            entry: NodeEntry::default(),
        }
    }
}

/// Where consensus keeps what it must not forget.
#[derive(Clone)]
pub struct ConsensusDisk {
    /// The log: synced before anything is acknowledged.
    pub log: Arc<dyn Keyspace>,
    /// The catalog and how far it is: may lag behind the log after a power cut.
    pub state: Arc<dyn Keyspace>,
}

/// Submit, read, watch. Clones share one node.
#[derive(Clone)]
pub struct Consensus(Arc<Inner>);

pub(crate) struct Inner {
    raft: Raft,
    links: Arc<Links>,
    state: Arc<dyn Keyspace>,
    applied: watch::Receiver<u64>,
    seed: u64,
    pub(crate) in_flight: InFlight,
    pub(crate) barrier: mpsc::Sender<Waiter>,
    pub(crate) forward: mpsc::Sender<Forwarded>,
    /// Places for questions that take long.
    pub(crate) scans: Arc<Semaphore>,
    receiving: Receiving,
    /// Members heard of from other members, for when this node's log is behind theirs.
    learned: Mutex<BTreeMap<NodeId, NodeEntry>>,
    /// When a leader last wrote to this node.
    heard: Mutex<Instant>,
    /// Where others say that the newest list of members is, until it is asked for.
    members_heard: AtomicU64,
    /// Members that were heard of at another address than everybody knows.
    moved: Mutex<BTreeMap<NodeId, String>>,
    /// Work of this handle. It ends when the node stops.
    tasks: Mutex<JoinSet<()>>,
}

impl Consensus {
    /// Start from what `disk` holds; an empty disk becomes a cluster of one.
    ///
    /// `seed` gives election time-outs and, on an empty disk, the ids of this node and its cluster.
    /// Without `dial` the node talks to nobody.
    pub async fn open(
        settings: ConsensusSettings,
        disk: ConsensusDisk,
        dial: Option<Arc<dyn Dial>>,
        seed: u64,
    ) -> Result<Self, OpenError> {
        let machine = Machine::open(Arc::clone(&disk.state)).await?;
        bring_log_up_to_state(&disk, &machine).await?;
        check_that_log_and_state_meet(&disk, &machine)?;
        if let Some(node) = identity::node_of(&*disk.log)? {
            log::step_down(&*disk.log, node)?;
        }
        let is_fresh = LogStore::is_empty(&*disk.log)?;
        let identity = Identity::begin(&*disk.log, is_fresh, &mut Chance::new(seed)).await?;
        let applied = machine.watch();
        let (flusher, flush) = Flusher::new(Arc::clone(&disk.log));
        let mut tasks = JoinSet::new();
        tasks.spawn(flush);
        let log = LogStore::new(Arc::clone(&disk.log), flusher.clone());
        let config = config(&settings).validate().map_err(|error| OpenError::Raft(error.to_string()))?;
        let links =
            Arc::new(Links::new(identity.clone(), (disk.log, flusher), dial, settings.entry.address.clone()));
        let network = Network {
            links: Arc::clone(&links),
            state: Arc::clone(&disk.state),
            pace: Pace::new(settings.snapshot_bytes_per_s, settings.log_entries_kept),
        };
        let start = Raft::new(identity.node.0, Arc::new(config), network, log, machine);
        let raft = SeededRuntime::scope(seed, start).await.map_err(|e| OpenError::Raft(e.to_string()))?;
        let (asks, queue) = mpsc::channel(crate::read::WAITING_MAX);
        let (forward, forwarded) = mpsc::channel(forward::WAITING_MAX);
        let learned = Mutex::new(identity.known.clone());
        let in_flight = InFlight::new(identity.node, identity.boot.epoch);
        let consensus = Self(Arc::new(Inner {
            raft,
            links,
            state: disk.state,
            applied,
            seed,
            in_flight,
            barrier: asks,
            scans: Arc::new(Semaphore::new(SCANS_MAX)),
            forward,
            receiving: Arc::new(AsyncMutex::new(())),
            learned,
            heard: Mutex::new(Instant::now()),
            members_heard: AtomicU64::new(0),
            moved: Mutex::default(),
            tasks: Mutex::default(),
        }));
        let inner = Arc::downgrade(&consensus.0);
        consensus.links().look_up_by(Box::new(move |node| Self(inner.upgrade()?).member(node)));
        SeededRuntime::scope(seed, consensus.begin(&settings.entry)).await?;
        tasks.spawn(barrier(Arc::downgrade(&consensus.0), queue));
        tasks.spawn(forward::forward(Arc::downgrade(&consensus.0), forwarded));
        tasks.spawn(SeededRuntime::scope(seed, keeper::meet_voters(Arc::downgrade(&consensus.0))));
        tasks.spawn(SeededRuntime::scope(seed, keeper::keep(Arc::downgrade(&consensus.0), settings)));
        *consensus.0.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(consensus)
    }

    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Form the cluster if there is none yet, and do not wait out an election nobody contests.
    async fn begin(&self, entry: &NodeEntry) -> Result<(), OpenError> {
        let raft_error = |error: &dyn std::fmt::Display| OpenError::Raft(error.to_string());
        let me = self.node().0;
        if !self.raft().is_initialized().await.map_err(|e| raft_error(&e))? {
            if self.links().identity.joined {
                return Ok(()); // the cluster's leader will turn to this node
            }
            let alone = BTreeMap::from([(me, entry.clone())]);
            self.raft().initialize(alone).await.map_err(|e| raft_error(&e))?;
        } else if self.raft().voter_ids().eq([me]) {
            self.raft().trigger().elect(false).await.map_err(|e| raft_error(&e))?;
        }
        self.know_members().await
    }

    /// Wait until openraft has published who the members are, which it does in a moment.
    async fn know_members(&self) -> Result<(), OpenError> {
        if self.links().log_is_empty()? {
            return Ok(()); // only votes came in so far; the leader will tell, once this node's door is open
        }
        let known = |metrics: &RaftMetrics<Types>| metrics.membership_config.nodes().next().is_some();
        let waited = self.raft().wait(Some(START_WAIT)).metrics(known, "members are known").await;
        waited.map(|_| ()).map_err(|error| OpenError::Raft(error.to_string()))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.0.raft
    }

    pub(crate) fn links(&self) -> &Links {
        &self.0.links
    }

    pub(crate) fn state(&self) -> &Arc<dyn Keyspace> {
        &self.0.state
    }

    pub(crate) fn receiving(&self) -> &Receiving {
        &self.0.receiving
    }

    pub(crate) fn seed(&self) -> u64 {
        self.0.seed
    }

    pub(crate) fn learned(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, NodeEntry>> {
        self.0.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody who leads by `vote` wrote to this node. A leader of an earlier term is none any more, and what
    /// it says must not keep this node from looking for those that are.
    pub(crate) fn hear(&self, vote: &Vote) {
        if vote.leader_id.term < self.raft().metrics().borrow_watched().current_term {
            return;
        }
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long no leader has written to this node.
    pub(crate) fn silence(&self) -> Duration {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// A leader writes to this node, so its log says who the members are. Whoever was only heard of, and
    /// may have been removed since, is nobody from now on.
    pub(crate) fn forget_learned(&self) {
        if self.is_member(self.node()) {
            self.learned().clear();
        }
    }

    /// Somebody says that the list of members changed at this log index. Nobody vouches for it: at most it
    /// makes this node ask its members once, a little earlier than it would.
    pub fn hear_of_members(&self, at: u64) {
        self.0.members_heard.fetch_max(at, Ordering::Relaxed);
    }

    /// Whether a newer list of members was heard of since this was asked last.
    pub(crate) fn heard_of_newer_members(&self) -> bool {
        self.0.members_heard.swap(0, Ordering::Relaxed) > self.members_at()
    }

    pub(crate) fn moved(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.0.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Index of the last log entry applied here, as it grows. Equal indexes mean equal catalogs.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.0.applied.clone()
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.links().identity.node
    }

    /// Resolves when this node can no longer take part: its disk failed or is older than what its peers
    /// saw of it, or it was stopped.
    pub async fn ended(&self) -> ConsensusError {
        let mut metrics = self.raft().metrics();
        let mut amnesia = self.links().amnesia();
        let mut sync_failed = self.links().sync_failed();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return failed(fatal);
            }
            let changed = tokio::select! {
                biased;
                Ok(_) = amnesia.wait_for(|amnesia| *amnesia) => return ConsensusError::Amnesia,
                Ok(_) = sync_failed.wait_for(Option::is_some) => return ConsensusError::DiskFailed,
                changed = metrics.changed() => changed,
            };
            if changed.is_err() {
                return ConsensusError::Stopped;
            }
        }
    }

    /// Stop taking part, and make what was applied durable so that the next start replays next to nothing. A
    /// leader should [hand over](Self::hand_over) before.
    pub async fn stop(&self) {
        if SeededRuntime::scope(self.seed(), self.raft().shutdown()).await.is_err() {
            tracing::error!("the Raft task panicked while stopping");
        }
        self.links().close().await;
        if let Err(fault) = self.state().sync().await {
            tracing::error!(%fault, "the catalog could not be synced; the next start replays more of the log");
        }
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
    }
}

/// A log may end before what the state holds, after a power cut, without anything being lost:
///
/// * between the installation of a snapshot and the purge of the log that it replaces;
/// * on a node that is no majority by itself, because it applies what a majority has synced, and its own
///   copy may not be. It never acknowledged those entries.
///
/// Then the log goes on behind the state, which holds them.
async fn bring_log_up_to_state(disk: &ConsensusDisk, machine: &Machine) -> Result<(), OpenError> {
    if let Some(installed) = install::installed(&*disk.state)? {
        LogStore::begin_after(&*disk.log, installed).await?;
    }
    let Some(node) = identity::node_of(&*disk.log)? else { return Ok(()) };
    let applied = machine.applied();
    let members = &applied.membership;
    let follows = members.get_node(&node.0).is_some() && !members.voter_ids().eq([node.0]);
    if let Some(last) = applied.log_id.filter(|_| follows) {
        LogStore::begin_after(&*disk.log, last).await?;
    }
    Ok(())
}

/// Alone, a node applies entries only after they are synced, so a log that ends before the applied index lost
/// something that may have been acknowledged. They are purged only after the state that holds them is
/// synced, so a state that ends before the first entry of the log did as well.
fn check_that_log_and_state_meet(disk: &ConsensusDisk, machine: &Machine) -> Result<(), OpenError> {
    let log = LogStore::last_index(&*disk.log)?;
    let purged = LogStore::purged_index(&*disk.log)?;
    let applied = *machine.watch().borrow();
    if log < applied {
        return Err(OpenError::LogLostItsEnd { log, applied });
    }
    if applied < purged {
        return Err(OpenError::CatalogLost { purged, applied });
    }
    Ok(())
}

pub(crate) fn failed(fatal: &Fatal<Types>) -> ConsensusError {
    match fatal {
        Fatal::Stopped => ConsensusError::Stopped,
        Fatal::StorageError(_) | Fatal::Panicked => ConsensusError::DiskFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_term_is_over_is_not_heard() {
        let consensus = crate::testing::in_memory().await;
        let term = consensus.raft().metrics().borrow_watched().current_term;
        assert!(term > 0);
        let passed = Duration::from_secs(10);
        tokio::time::advance(passed).await;
        consensus.hear(&Vote::new_committed(term - 1, 7));
        assert!(consensus.silence() >= passed);
        consensus.hear(&Vote::new_committed(term, 7));
        assert!(consensus.silence() < passed);
    }
}
