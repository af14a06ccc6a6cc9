//! Who is in the cluster, and how that changes.
//!
//! Every change is carried out by the leader, one at a time, by joint consensus; a new node follows
//! first and votes later. Two operators at once are told apart by openraft: the second one's change is
//! refused while the first is under way.

pub(crate) mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, RaftError};
use peerglass_catalog::{NodeEntry, NodeId, NodeRole, PeerKey};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::raft::{Membership, Raft};

/// How long a change may take before its outcome is reported as unknown.
pub(crate) const CHANGE_WAIT: Duration = Duration::from_secs(8);

/// How long a promotion waits for a node to catch up.
const CATCH_UP_WAIT: Duration = Duration::from_secs(5);

/// A voter that has not answered for this long is not counted on.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// How long a node may be behind and still become a voter: it has to answer at once then.
const CATCH_UP_ENTRIES_MAX: u64 = 64;

/// A change of the membership.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Add a node as a learner. An older node with the same key is removed: its disk is gone.
    Admit { node: NodeId, entry: NodeEntry },
    /// It is reached at another address from now on.
    Move { node: NodeId, address: String },
    /// Let a node vote.
    Promote(NodeId),
    /// Let it follow only.
    Demote(NodeId),
    /// Remove it.
    Remove(NodeId),
    /// Have it lead.
    Transfer(NodeId),
    /// It is at this site and in this rack, which nobody knew.
    Place { node: NodeId, site: String, rack: String },
}

/// Why the membership did not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeError {
    /// No such node.
    #[error("node {0} is not in the cluster")]
    NoSuchNode(u64),
    /// Another change is under way.
    #[error("another change of the membership is under way; try again when it is done")]
    Busy,
    /// It has not caught up with the log.
    #[error("node {node} is {behind} entries behind; try again when it has caught up")]
    Behind {
        /// Which node.
        node: u64,
        /// Entries it lacks.
        behind: u64,
    },
    /// Another node has the id. Ids are drawn at random, so whoever asks for a taken one means it.
    #[error("node id {0} belongs to another node")]
    IdTaken(u64),
    /// It does not vote.
    #[error("node {0} is not a voter")]
    NotAVoter(u64),
    /// Without it nobody would be left to vote.
    #[error("node {0} is the last voter; promote another node first")]
    LastVoter(u64),
    /// The voters left over would not be able to agree on anything, this change included.
    #[error(
        "without node {node} most voters would be silent ones ({silent:?}), and nothing could be written any more; \
         bring those back first, or remove them"
    )]
    NoMajorityLeft {
        /// Which node was to stop voting.
        node: u64,
        /// Voters that have not answered lately.
        silent: Vec<u64>,
    },
    /// It has not answered lately.
    #[error("node {0} has not answered lately")]
    Silent(u64),
    /// No leader, or no majority in time. The change may be done yet.
    #[error("no majority of the cluster answers; the change may be done yet")]
    Unavailable,
}

impl ChangeError {
    fn of(error: &RaftError<crate::raft::Types, ClientWriteError<crate::raft::Types>>) -> Self {
        use openraft::error::ChangeMembershipError as Refused;
        match error {
            RaftError::APIError(ClientWriteError::ChangeMembershipError(refused)) => match refused {
                Refused::LearnerNotFound(missing) => Self::NoSuchNode(missing.node_id),
                Refused::EmptyMembership(_) => Self::Unavailable,
                Refused::InProgress(_)
                | Refused::UnsupportedMembershipTransition(_)
                | Refused::UncommittedLeaderLog(_)
                | Refused::NodeMetadataChanged(_) => Self::Busy,
            },
            RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => Self::Busy,
            RaftError::APIError(
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_),
            )
            | RaftError::Fatal(_) => Self::Unavailable,
        }
    }
}

/// Carry out `change`. This node must be the leader, or openraft says so.
pub(crate) async fn carry_out(raft: &Raft, change: Change) -> Result<(), ChangeError> {
    let deadline = Instant::now() + CHANGE_WAIT;
    let done = async {
        match change {
            Change::Admit { node, entry } => admit(raft, node, entry).await,
            Change::Move { node, address } => relocate(raft, node, address).await,
            Change::Promote(node) => promote(raft, node).await,
            Change::Demote(node) => demote(raft, node).await,
            Change::Remove(node) => remove(raft, node).await,
            Change::Transfer(node) => transfer(raft, node).await,
            Change::Place { node, site, rack } => place(raft, node, site, rack).await,
        }
    };
    timeout_at(deadline, done).await.unwrap_or(Err(ChangeError::Unavailable))
}

/// The membership as this node knows it, committed or not.
pub(crate) fn effective(raft: &Raft) -> Arc<Membership> {
    Arc::clone(&raft.metrics().borrow_watched().membership_config)
}

async fn apply(raft: &Raft, change: ChangeMembers<u64, NodeEntry>, retain: bool) -> Result<(), ChangeError> {
    match raft.change_membership(change, retain).await {
        Ok(_) => Ok(()),
        Err(error) => Err(ChangeError::of(&error)),
    }
}

async fn admit(raft: &Raft, node: NodeId, entry: NodeEntry) -> Result<(), ChangeError> {
    let members = effective(raft);
    match members.get_node(&node.0) {
        // A repeated admission must not undo what an operator changed meanwhile.
        Some(there) if there.key == entry.key => return Ok(()),
        Some(_) => return Err(ChangeError::IdTaken(node.0)),
        None => {}
    }
    let old = nodes_with(&members, entry.key).into_iter().filter(|old| *old != node.0);
    for old in old.collect::<Vec<_>>() {
        remove(raft, NodeId(old)).await?;
    }
    apply(raft, ChangeMembers::SetNodes(BTreeMap::from([(node.0, entry)])), true).await
}

fn nodes_with(members: &Membership, key: PeerKey) -> Vec<u64> {
    members.nodes().filter(|(_, entry)| entry.key == key).map(|(node, _)| *node).collect()
}

async fn relocate(raft: &Raft, node: NodeId, address: String) -> Result<(), ChangeError> {
    let members = effective(raft);
    let entry = members.get_node(&node.0).ok_or(ChangeError::NoSuchNode(node.0))?.clone();
    if entry.address == address {
        return Ok(());
    }
    let entry = NodeEntry { address, ..entry };
    apply(raft, ChangeMembers::SetNodes(BTreeMap::from([(node.0, entry)])), true).await
}

async fn place(raft: &Raft, node: NodeId, site: String, rack: String) -> Result<(), ChangeError> {
    let members = effective(raft);
    let entry = members.get_node(&node.0).ok_or(ChangeError::NoSuchNode(node.0))?.clone();
    let entry = NodeEntry { site, rack, ..entry };
    apply(raft, ChangeMembers::SetNodes(BTreeMap::from([(node.0, entry)])), true).await
}

async fn promote(raft: &Raft, node: NodeId) -> Result<(), ChangeError> {
    let members = effective(raft);
    let entry = members.get_node(&node.0).ok_or(ChangeError::NoSuchNode(node.0))?.clone();
    if entry.role != NodeRole::Voter {
        let entry = NodeEntry { role: NodeRole::Voter, ..entry };
        apply(raft, ChangeMembers::SetNodes(BTreeMap::from([(node.0, entry)])), true).await?;
    }
    if members.get_joint_config().last().is_some_and(|voters| voters.contains(&node.0)) {
        return finish_joint(raft).await;
    }
    // A voter that lacks half of the log would make every write wait for it.
    let patience = Instant::now() + CATCH_UP_WAIT;
    loop {
        match behind(raft, node.0) {
            Some(behind) if behind <= CATCH_UP_ENTRIES_MAX => break,
            Some(behind) if Instant::now() >= patience => {
                return Err(ChangeError::Behind { node: node.0, behind });
            }
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
    apply(raft, ChangeMembers::AddVoterIds(BTreeSet::from([node.0])), true).await
}

/// Entries `node` lacks, as far as this leader knows.
pub(crate) fn behind(raft: &Raft, node: u64) -> Option<u64> {
    let metrics = raft.metrics().borrow_watched().clone();
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = metrics.replication.as_ref()?.get(&node)?;
    Some(last.saturating_sub(matched.as_ref().map_or(0, |id| id.index)))
}

async fn demote(raft: &Raft, node: NodeId) -> Result<(), ChangeError> {
    let members = effective(raft);
    let entry = members.get_node(&node.0).ok_or(ChangeError::NoSuchNode(node.0))?.clone();
    let voters: Vec<u64> = members.voter_ids().collect();
    if voters == [node.0] {
        return Err(ChangeError::LastVoter(node.0));
    }
    if voters.contains(&node.0) {
        check_majority_without(raft, node.0, &voters).await?;
    }
    // First the wish, so that it is not promoted again by itself.
    let entry = NodeEntry { role: NodeRole::Learner, ..entry };
    apply(raft, ChangeMembers::SetNodes(BTreeMap::from([(node.0, entry)])), true).await?;
    if voters.contains(&node.0) {
        apply(raft, ChangeMembers::RemoveVoters(BTreeSet::from([node.0])), true).await?;
    }
    Ok(())
}

/// Refuse a change after which no majority of the voters would answer: it could not even be completed. A new
/// leader has to hear of them first.
async fn check_majority_without(raft: &Raft, node: u64, voters: &[u64]) -> Result<(), ChangeError> {
    let patience = Instant::now() + ANSWERS_WITHIN;
    loop {
        let left = voters.iter().copied().filter(|voter| *voter != node);
        let (answering, silent): (Vec<u64>, Vec<u64>) = left.partition(|voter| answers(raft, *voter));
        if answering.len() > silent.len() {
            return Ok(());
        }
        if Instant::now() >= patience {
            return Err(ChangeError::NoMajorityLeft { node, silent });
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Whether this leader, or the node itself, heard of `node` lately.
fn answers(raft: &Raft, node: u64) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    let now = <openraft::TokioInstant as openraft::Instant>::now();
    let heard = metrics.heartbeat.as_ref().and_then(|nodes| nodes.get(&node)?.as_ref());
    node == metrics.id || heard.is_some_and(|at| now - **at <= ANSWERS_WITHIN)
}

async fn remove(raft: &Raft, node: NodeId) -> Result<(), ChangeError> {
    let members = effective(raft);
    if members.get_node(&node.0).is_none() {
        return Err(ChangeError::NoSuchNode(node.0));
    }
    let voters: Vec<u64> = members.voter_ids().collect();
    if voters == [node.0] {
        return Err(ChangeError::LastVoter(node.0));
    }
    // In steps of which each leaves something harmless behind, should the leader die after it, and which
    // can be repeated: it will not be promoted again, does not vote, is not a member.
    demote(raft, node).await?;
    apply(raft, ChangeMembers::RemoveNodes(BTreeSet::from([node.0])), true).await
}

/// A leader died, or lost patience, between the two steps of a change; the second one is still due.
pub(crate) async fn finish_joint(raft: &Raft) -> Result<(), ChangeError> {
    let members = effective(raft);
    match members.get_joint_config().as_slice() {
        [_, .., last] => apply(raft, ChangeMembers::ReplaceAllVoters(last.clone()), true).await,
        _ => Ok(()),
    }
}

async fn transfer(raft: &Raft, node: NodeId) -> Result<(), ChangeError> {
    let members = effective(raft);
    members.get_node(&node.0).ok_or(ChangeError::NoSuchNode(node.0))?;
    if !members.voter_ids().any(|voter| voter == node.0) {
        return Err(ChangeError::NotAVoter(node.0));
    }
    if *raft.node_id() == node.0 {
        return Ok(());
    }
    if !answers(raft, node.0) {
        return Err(ChangeError::Silent(node.0));
    }
    if let Some(behind) = behind(raft, node.0).filter(|behind| *behind > CATCH_UP_ENTRIES_MAX) {
        return Err(ChangeError::Behind { node: node.0, behind });
    }
    raft.trigger().transfer_leader(node.0).await.map_err(|_| ChangeError::Unavailable)?;
    // Its outcome is an election like any other.
    loop {
        let leader = raft.metrics().borrow_watched().current_leader;
        if leader == Some(node.0) {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}
