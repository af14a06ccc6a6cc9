//! What is done to a node's log while the node is not running: joining, and recovery.
//!
//! Recovery is for when a majority is lost for good. The surviving node declares itself the only voter
//! of a new incarnation of the cluster: it appends a membership of one to its own log and takes
//! everything before it as committed. Entries that only the lost nodes had are gone, which nobody can
//! know from here; nodes of the old incarnation are refused for ever.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;
use peerglass_catalog::keyspace::{self, Batch, Keyspace};
use peerglass_catalog::{Fault, NodeEntry, NodeId};

use crate::cluster::Admission;
use crate::handle::ConsensusDisk;
use crate::identity::{self, Chance, ClusterId};
use crate::log::{self, LogStore};
use crate::machine::read_applied;
use crate::raft::{Entry, LogId, Vote};
use crate::snapshot::install;

/// What a recovery found and did, or would do.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The node that goes on alone.
    pub node: NodeId,
    /// The nodes that are shut out.
    pub lost: Vec<(NodeId, NodeEntry)>,
    /// The last entry of this node's log.
    pub last_log: u64,
    /// The last entry this node knows to have been committed. What lies between the two may never have
    /// been acknowledged, and what lies behind may be missing.
    pub committed: u64,
    /// The cluster from now on.
    pub cluster: ClusterId,
}

/// Why a node cannot go on alone.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A disk or a stored value.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is nothing to recover.
    #[error("this data directory holds no log of a cluster")]
    NoCluster,
    /// It has no entry of its own, so it was never admitted.
    #[error("this node is not a member of the cluster that its log knows")]
    NotAMember,
}

/// The cluster a log belongs to, if any.
pub fn belongs_to(log: &dyn Keyspace) -> Result<Option<ClusterId>, Fault> {
    identity::cluster_of(log)
}

/// The id a log has, given to it if it is empty.
pub async fn reserve_node(log: &dyn Keyspace, seed: u64) -> Result<NodeId, Fault> {
    identity::reserve(log, &mut Chance::new(seed)).await
}

/// Make an empty log part of the cluster that admitted it.
pub async fn adopt_cluster(log: &dyn Keyspace, admission: &Admission) -> Result<(), Fault> {
    identity::adopt(log, admission.cluster, &admission.members).await
}

/// Make the node with this disk, which must not be running, the only voter of a new incarnation of its
/// cluster. Without `confirmed` it only says what that would mean.
pub async fn recover(disk: &ConsensusDisk, confirmed: bool) -> Result<Recovery, RecoverError> {
    let cluster = identity::cluster_of(&*disk.log)?.ok_or(RecoverError::NoCluster)?;
    let node = identity::node_of(&*disk.log)?.ok_or(RecoverError::NoCluster)?;
    install::resume(&disk.state).await?;
    if let Some(installed) = install::installed(&*disk.state)? {
        LogStore::begin_after(&*disk.log, installed).await?;
    }
    let applied = keyspace::look(&*disk.state, read_applied)?;
    let found = log::survey(&*disk.log, applied.index())?;
    // What is applied is committed, also where a power cut took it out of the log.
    let last = found.last.max(applied.log_id).ok_or(RecoverError::NoCluster)?;
    if confirmed {
        LogStore::begin_after(&*disk.log, last).await?;
    }
    let members = found.membership.as_ref().unwrap_or_else(|| applied.membership.membership());
    let entry = members.get_node(&node.0).cloned().ok_or(RecoverError::NotAMember)?;
    let lost = members.nodes().filter(|(other, _)| **other != node.0);
    let recovery = Recovery {
        node,
        lost: lost.map(|(node, entry)| (NodeId(*node), entry.clone())).collect(),
        last_log: last.index,
        committed: found.committed.map_or(0, |id| id.index).max(applied.index()),
        cluster: ClusterId { incarnation: cluster.incarnation.saturating_add(1), ..cluster },
    };
    if confirmed {
        let term = found.vote.map_or(0, |vote| vote.leader_id.term).max(last.leader_id.term) + 1;
        let alone =
            openraft::Membership::new(vec![BTreeSet::from([node.0])], BTreeMap::from([(node.0, entry)]))
                .map_err(|error| Fault::Io(std::io::Error::other(error.to_string())))?;
        let vote = Vote::new(term, node.0);
        let id = LogId::new(vote.leader_id.to_committed(), last.index + 1);
        let entry: Entry = openraft::Entry { log_id: id, payload: EntryPayload::Membership(alone) };
        let mut batch = Batch::default();
        log::put_entry(&mut batch, &entry);
        log::put_vote(&mut batch, &vote);
        identity::put_cluster(&mut batch, recovery.cluster);
        disk.log.write(batch)?;
        disk.log.sync().await?;
    }
    Ok(recovery)
}

/// What a log holds, for whoever looks at it from outside.
pub(crate) struct Survey {
    pub(crate) last: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) vote: Option<Vote>,
    /// The last membership behind what is applied.
    pub(crate) membership: Option<openraft::Membership<u64, NodeEntry>>,
}

/// The membership an entry sets, if it does.
pub(crate) fn membership_of(entry: &Entry) -> Option<openraft::Membership<u64, NodeEntry>> {
    match &entry.payload {
        EntryPayload::Membership(membership) => Some(membership.clone()),
        EntryPayload::Blank | EntryPayload::Normal(_) => None,
    }
}
