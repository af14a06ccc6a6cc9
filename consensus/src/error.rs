//! Failures of the machine, sorted by what the caller can do.

use peerglass_catalog::{Fault, Refusal};

/// Why a command brought no outcome.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// A rule of the catalog says no. Nothing changed and nothing will.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine failed. The command may have been carried out, or may be yet.
    #[error(transparent)]
    Failed(#[from] ConsensusError),
}

/// Why consensus could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// No leader or no majority within the deadline. Trying again later may work.
    #[error("no majority of the cluster answers")]
    Unavailable,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
    /// This node's log or state cannot be trusted; an operator has to act.
    #[error("this node's disk failed, it no longer takes part")]
    DiskFailed,
    /// This node's disk is older than what other nodes saw of it: it may have forgotten acknowledged
    /// entries or votes, so it must not go on as the node it was.
    #[error(
        "this node's disk is older than what other nodes saw of it; it may have forgotten what it promised: move \
         its data directory away and join again with a new token"
    )]
    Amnesia,
    /// The catalog could not be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why consensus could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A disk or a stored value.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The state has applied entries that the log no longer holds, so the log lost its end after
    /// it was synced. Going on could lose acknowledged writes.
    #[error(
        "the Raft log ends at entry {log}, but entry {applied} was already applied: the log lost its end; \
         restore this node's data directory from a backup, or in a cluster replace the node"
    )]
    LogLostItsEnd {
        /// Last entry of the log, 0 for none.
        log: u64,
        /// Last entry the state has seen.
        applied: u64,
    },
    /// The catalog is behind what the log still holds, so entries between them are lost.
    #[error(
        "the catalog ends at entry {applied}, but the Raft log begins after entry {purged}: the catalog was lost or \
         set back; restore this node's data directory from a backup, or in a cluster replace the node"
    )]
    CatalogLost {
        /// Last entry purged from the log.
        purged: u64,
        /// Last entry the state has seen, 0 for none.
        applied: u64,
    },
    /// A join was begun here and not finished.
    #[error(
        "this data directory was about to join a cluster, which may count with it already: repeat `peerglass cluster \
         join`, or start with an empty directory"
    )]
    JoinUnfinished,
    /// Raft refused its own settings or stored state.
    #[error("Raft cannot start: {0}")]
    Raft(String),
}
