//! The handle the rest of a node holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, Fatal, LinearizableReadError, RaftError};
use openraft::{BasicNode, Raft, ReadPolicy};
use peerglass_catalog::keyspace::{self, Keyspace};
use peerglass_catalog::{Catalog, Command, NodeId, Outcome};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{ConsensusError, OpenError, SubmitError};
use crate::log::{Flusher, LogStore};
use crate::machine::Machine;
use crate::network::Alone;
use crate::raft::{Proposal, Reply, SeededRuntime, Types, config};

/// How long a request waits for a leader before it is told that there is none.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// Pause before asking again whether there is a leader.
const LEADER_POLL: Duration = Duration::from_millis(20);

/// How often the log is compacted.
#[derive(Clone, Debug)]
pub struct ConsensusSettings {
    /// Entries after which the state is made durable and the log purged.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot, for replicas that are a little late.
    pub log_entries_kept: u64,
}

impl Default for ConsensusSettings {
    fn default() -> Self {
        Self { snapshot_entries: 20_000, log_entries_kept: 1_000 }
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
pub struct Consensus {
    raft: Raft<Types, Machine>,
    state: Arc<dyn Keyspace>,
    applied: watch::Receiver<u64>,
    node: NodeId,
    seed: u64,
    /// The flush task. It ends by itself when the last log handle goes.
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Consensus {
    /// Start from what `disk` holds; an empty disk becomes a cluster of one.
    ///
    /// `seed` gives election time-outs and, on an empty disk, this node's id.
    pub async fn open(
        settings: ConsensusSettings,
        disk: ConsensusDisk,
        seed: u64,
    ) -> Result<Self, OpenError> {
        let node = LogStore::node_id(&*disk.log, NodeId(seed.max(1))).await?;
        let machine = Machine::open(Arc::clone(&disk.state))?;
        check_that_log_and_state_meet(&disk, &machine)?;
        let applied = machine.watch();
        let (flusher, flush) = Flusher::new(Arc::clone(&disk.log));
        let mut tasks = JoinSet::new();
        tasks.spawn(flush);
        let log = LogStore::new(Arc::clone(&disk.log), flusher);
        let config = config(&settings).validate().map_err(|error| OpenError::Raft(error.to_string()))?;
        let start = Raft::new(node.0, Arc::new(config), Alone, log, machine);
        let raft = SeededRuntime::scope(seed, start).await.map_err(|e| OpenError::Raft(e.to_string()))?;
        let consensus =
            Self { raft, state: disk.state, applied, node, seed, tasks: Arc::new(Mutex::new(tasks)) };
        SeededRuntime::scope(seed, consensus.begin()).await?;
        Ok(consensus)
    }

    /// Form the cluster if there is none yet, and do not wait out an election nobody contests.
    async fn begin(&self) -> Result<(), OpenError> {
        let raft_error = |error: &dyn std::fmt::Display| OpenError::Raft(error.to_string());
        if !self.raft.is_initialized().await.map_err(|e| raft_error(&e))? {
            let alone = BTreeMap::from([(self.node.0, BasicNode::default())]);
            self.raft.initialize(alone).await.map_err(|e| raft_error(&e))?;
        } else if self.raft.voter_ids().eq([self.node.0]) {
            self.raft.trigger().elect(false).await.map_err(|e| raft_error(&e))?;
        }
        Ok(())
    }

    /// Have the cluster carry out `command`.
    ///
    /// `Ok` means it is durable on a majority and applied here. A failure means nothing is known:
    /// the command may have been carried out, or may be yet.
    pub async fn submit(&self, command: Command) -> Result<Outcome, SubmitError> {
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            // Only a proposal that was turned away before it was appended is tried again.
            match self.raft.client_write(Proposal(command.clone())).await {
                Ok(response) => {
                    return match response.data {
                        Reply::Done(outcome) => Ok(outcome),
                        Reply::Refused(refusal) => Err(SubmitError::Refused(refusal)),
                        Reply::Nothing => unreachable!("a proposal is answered as a proposal"),
                    };
                }
                Err(RaftError::Fatal(fatal)) => return Err(failed(&fatal).into()),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                    if Instant::now() >= deadline {
                        return Err(ConsensusError::Unavailable.into());
                    }
                    sleep(LEADER_POLL).await;
                }
                Err(RaftError::APIError(
                    ClientWriteError::LogEntryDiscarded(_)
                    | ClientWriteError::ChangeMembershipError(_)
                    | ClientWriteError::PreconditionFailed(_),
                )) => return Err(ConsensusError::Unavailable.into()),
            }
        }
    }

    /// Ask the catalog a question. The answer takes every write into account that was acknowledged
    /// by any node before this call.
    pub async fn read<T>(&self, question: impl FnOnce(&Catalog<'_>) -> T) -> Result<T, ConsensusError> {
        self.read_barrier().await?;
        Ok(keyspace::look(&*self.state, |read| question(&Catalog::new(read))))
    }

    async fn read_barrier(&self) -> Result<(), ConsensusError> {
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            let asked = timeout_at(deadline, self.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await;
            match asked {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(RaftError::Fatal(fatal))) => return Err(failed(&fatal)),
                Ok(Err(RaftError::APIError(
                    LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
                ))) if Instant::now() < deadline => sleep(LEADER_POLL).await,
                Ok(Err(RaftError::APIError(_))) | Err(_) => return Err(ConsensusError::Unavailable),
            }
        }
    }

    /// Index of the last log entry applied here, as it grows. Equal indexes mean equal catalogs.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Resolves when this node can no longer take part: its disk failed or it was stopped.
    pub async fn ended(&self) -> ConsensusError {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return failed(fatal);
            }
            if metrics.changed().await.is_err() {
                return ConsensusError::Stopped;
            }
        }
    }

    /// Stop taking part, and make what was applied durable so that the next start replays nothing.
    pub async fn stop(&self) {
        if SeededRuntime::scope(self.seed, self.raft.shutdown()).await.is_err() {
            tracing::error!("the Raft task panicked while stopping");
        }
        if let Err(fault) = self.state.sync().await {
            tracing::error!(%fault, "the catalog could not be synced; the next start replays more of the log");
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
    }
}

/// Entries are applied only after they are synced, so a log that ends before the applied index lost
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

fn failed(fatal: &Fatal<Types>) -> ConsensusError {
    match fatal {
        Fatal::Stopped => ConsensusError::Stopped,
        Fatal::StorageError(_) | Fatal::Panicked => ConsensusError::DiskFailed,
    }
}
