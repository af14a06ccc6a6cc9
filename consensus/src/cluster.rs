//! The cluster as one node sees it, and how operators change it.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use peerglass_catalog::keyspace::{self, Direction, KeyRange};
use peerglass_catalog::{
    Catalog, Command, Fault, NodeEntry, NodeId, NodeRole, Outcome, PeerKey, Refusal, Timestamp, TokenDigest,
};
use serde::{Serialize, Serializer};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{ConsensusError, SubmitError};
use crate::handle::Consensus;
use crate::identity::ClusterId;
use crate::membership::{self, CHANGE_WAIT, Change, ChangeError};
use crate::network::wire::Answer;
use crate::snapshot::spool::SPOOLS;
use crate::submit::Ask;

/// How long a leader that stops waits for another one to take over.
const HAND_OVER_WAIT: Duration = Duration::from_secs(3);

/// What one node knows of its cluster. Nothing of it is asked of others, so it is there without a
/// majority as well, and may be old.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// Which cluster.
    pub cluster: String,
    /// This node.
    #[serde(serialize_with = "as_text")]
    pub node: u64,
    /// Raft's term.
    pub term: u64,
    /// Who leads, as far as this node knows.
    #[serde(serialize_with = "as_text_if_any")]
    pub leader: Option<u64>,
    /// Index of the last entry of this node's log.
    pub last_log: u64,
    /// Index of the last entry this node knows to be committed.
    pub committed: u64,
    /// Index of the last entry applied here.
    pub applied: u64,
    /// Index of the last entry of the last snapshot.
    pub snapshot: u64,
    /// Index of the last entry purged from the log.
    pub purged: u64,
    /// Every member.
    pub members: Vec<MemberStatus>,
}

/// What one node knows of another member of its cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberStatus {
    /// The id of its log.
    #[serde(serialize_with = "as_text")]
    pub node: u64,
    /// Its key, as a libp2p peer id.
    pub peer: String,
    /// Where its peer port is.
    pub address: String,
    /// Its site; empty if there is one only.
    pub site: String,
    /// Its rack; empty if that does not matter.
    pub rack: String,
    /// What it may become.
    pub role: NodeRole,
    /// Whether it votes.
    pub voter: bool,
    /// Entries it lacks; only the leader knows.
    pub lag: Option<u64>,
    /// Milliseconds since it last answered; only the leader knows.
    pub silent_ms: Option<u64>,
}

/// Node ids use all 64 bits, and many readers of JSON keep 53 of a number.
fn as_text<S: Serializer>(node: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(node)
}

fn as_text_if_any<S: Serializer>(node: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match node {
        Some(node) => to.collect_str(node),
        None => to.serialize_none(),
    }
}

/// What a node that joins has to know.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The cluster it belongs to from now on.
    pub cluster: ClusterId,
    /// Whom it can turn to.
    pub members: BTreeMap<NodeId, NodeEntry>,
}

/// Why a node may not join.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The token.
    #[error(transparent)]
    Token(#[from] SubmitError),
    /// The membership.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Consensus {
    /// The cluster as this node knows it.
    pub fn status(&self) -> ClusterStatus {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let index = |id: &Option<crate::raft::LogId>| id.as_ref().map_or(0, |id| id.index);
        let last_log = metrics.last_log_index.unwrap_or(0);
        let config = &metrics.membership_config;
        let voters: Vec<u64> = config.voter_ids().collect();
        let now = openraft::TokioInstant::now();
        let members = config.nodes().map(|(node, entry)| {
            let matched = metrics.replication.as_ref().and_then(|nodes| nodes.get(node));
            let heard = metrics.heartbeat.as_ref().and_then(|nodes| nodes.get(node));
            let silent = heard.and_then(|at| at.as_ref()).map(|at| now - **at);
            let me = *node == metrics.id;
            MemberStatus {
                node: *node,
                peer: entry.key.to_string(),
                address: entry.address.clone(),
                site: entry.site.clone(),
                rack: entry.rack.clone(),
                role: entry.role,
                voter: voters.contains(node),
                lag: matched.map(|matched| last_log.saturating_sub(index(matched))),
                silent_ms: silent
                    .filter(|_| !me)
                    .map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
            }
        });
        ClusterStatus {
            cluster: self.links().identity.cluster.to_string(),
            node: metrics.id,
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log,
            committed: index(&metrics.local_committed),
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            members: members.collect(),
        }
    }

    /// What each member, this node included, has surely stored, as a log index. Only a leader knows; of
    /// anybody else it is empty. Committed entries are never taken back, so what a member synced of them
    /// it must keep.
    pub(crate) fn stored(&self) -> BTreeMap<NodeId, u64> {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let committed = metrics.local_committed.map_or(0, |id| id.index);
        let matched = metrics.replication.into_iter().flatten();
        matched.map(|(node, id)| (NodeId(node), id.map_or(0, |id| id.index.min(committed)))).collect()
    }

    /// The cluster this node belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.links().identity.cluster
    }

    /// Index of the log entry with the newest list of members this node has.
    pub fn members_at(&self) -> u64 {
        membership::effective(self.raft()).log_id().as_ref().map_or(0, |id| id.index)
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.node())
    }

    /// The other members, in order of their ids; on a node whose log does not say yet, those it was told of.
    pub fn others(&self) -> Vec<(NodeId, NodeEntry)> {
        let members = membership::effective(self.raft());
        if members.nodes().next().is_none() {
            return self.learned().iter().map(|(node, entry)| (*node, entry.clone())).collect();
        }
        let others = members.nodes().filter(|(node, _)| **node != self.node().0);
        others.map(|(node, entry)| (NodeId(*node), entry.clone())).collect()
    }

    /// The entry of a member, also of one this node has only heard of.
    pub fn member(&self, node: NodeId) -> Option<NodeEntry> {
        let members = membership::effective(self.raft());
        members.get_node(&node.0).cloned().or_else(|| self.learned().get(&node).cloned())
    }

    /// The member with this key.
    pub fn member_with(&self, key: PeerKey) -> Option<NodeId> {
        let members = membership::effective(self.raft());
        let found = members.nodes().find(|(_, entry)| entry.key == key).map(|(node, _)| NodeId(*node));
        found.or_else(|| self.learned().iter().find(|(_, entry)| entry.key == key).map(|(node, _)| *node))
    }

    /// Members that this leader has not heard of for `silence`; nothing on other nodes.
    pub fn absent(&self, silence: Duration) -> Vec<NodeId> {
        let limit = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        let members = self.status().members.into_iter();
        members
            .filter(|member| member.silent_ms.is_some_and(|ms| ms > limit))
            .map(|m| NodeId(m.node))
            .collect()
    }

    /// Whether `node` is a member.
    pub fn is_member(&self, node: NodeId) -> bool {
        membership::effective(self.raft()).get_node(&node.0).is_some()
    }

    /// Let the node in that comes with a token. Asking twice, as after a lost answer, is one admission.
    pub async fn admit(
        &self,
        token: TokenDigest,
        node: NodeId,
        (key, address): (PeerKey, String),
        at: Timestamp,
    ) -> Result<Admission, AdmitError> {
        // Whoever makes a secret up must not have every node write that down.
        let known = |catalog: &Catalog<'_>| catalog.knows_token(&token);
        let failed = |error: ConsensusError| AdmitError::Token(error.into());
        let known_here = self.read_stale(known).map_err(failed)?.0.map_err(|fault| failed(fault.into()))?;
        if !known_here && !self.read(known).await.map_err(failed)?.map_err(|fault| failed(fault.into()))? {
            return Err(AdmitError::Token(SubmitError::Refused(Refusal::NoSuchToken)));
        }
        let redeemed = self.submit(Command::RedeemToken { token, key, node, at }).await?;
        let Outcome::Admitted(grant) = redeemed else {
            return Err(ChangeError::Unavailable.into());
        };
        let entry = NodeEntry { key, address, site: grant.site, rack: grant.rack, role: grant.role };
        self.change(Change::Admit { node, entry }).await?;
        let mut members: BTreeMap<_, _> = self.others().into_iter().collect();
        if let Some(entry) = self.member(self.node()) {
            members.insert(self.node(), entry);
        }
        members.remove(&node);
        Ok(Admission { cluster: self.links().identity.cluster, members })
    }

    /// Let a node vote.
    pub async fn promote(&self, node: NodeId) -> Result<(), ChangeError> {
        self.change(Change::Promote(node)).await
    }

    /// Let a node follow only.
    pub async fn demote(&self, node: NodeId) -> Result<(), ChangeError> {
        self.change(Change::Demote(node)).await
    }

    /// Remove a node. It cannot come back without a new token.
    pub async fn remove(&self, node: NodeId) -> Result<(), ChangeError> {
        self.change(Change::Remove(node)).await
    }

    /// Have a voter lead.
    pub async fn transfer_leader(&self, node: NodeId) -> Result<(), ChangeError> {
        self.change(Change::Transfer(node)).await
    }

    pub(crate) async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let deadline = Instant::now() + CHANGE_WAIT;
        match self.ask_leader(&Ask::Change(change), deadline).await {
            Ok(Answer::Changed(result)) => result,
            Ok(_) | Err(_) => Err(ChangeError::Unavailable),
        }
    }

    pub(crate) async fn change_here(&self, change: Change) -> Answer {
        if !self.raft().is_leader() {
            return Answer::NotLeader(self.leader());
        }
        let leaves = matches!(&change, Change::Demote(node) | Change::Remove(node) if *node == self.node());
        if leaves && self.status().members.iter().filter(|member| member.voter).count() > 1 {
            // openraft would have it lead on without a vote. Whoever leads next is asked again.
            self.hand_over().await;
            return Answer::NotLeader(None);
        }
        Answer::Changed(membership::carry_out(self.raft(), change).await)
    }

    /// Make somebody else lead, if this node does and somebody can.
    pub async fn hand_over(&self) {
        if !self.is_leader() {
            return;
        }
        let voters = self.status().members.into_iter().filter(|member| {
            member.voter && member.node != self.node().0 && member.silent_ms.is_some_and(|ms| ms < 1_000)
        });
        let Some(next) = voters.min_by_key(|member| (member.lag, member.silent_ms)) else { return };
        let handed =
            timeout(HAND_OVER_WAIT, membership::carry_out(self.raft(), Change::Transfer(NodeId(next.node))));
        match handed.await {
            Ok(Ok(())) => {
                tracing::info!(node = next.node, "handed over the leadership");
                // The new leader has to be heard of by the others before this node goes silent.
                sleep(Duration::from_millis(50)).await;
            }
            Ok(Err(error)) => tracing::warn!(node = next.node, %error, "could not hand over the leadership"),
            Err(_) => tracing::warn!(node = next.node, "nobody took over the leadership in time"),
        }
    }

    /// A digest of this node's state, and the entry it is from: equal entries mean equal digests on every
    /// node (I-M6). Reads everything; for simulations and for the doctor.
    pub fn state_digest(&self) -> Result<(u64, [u8; 32]), ConsensusError> {
        let digest = keyspace::look(&**self.state(), |read| {
            let mut hash = blake3::Hasher::new();
            let everything = KeyRange { from: Vec::new(), to: None };
            for entry in read.scan(everything, Direction::Ascending) {
                let (key, value) = entry?;
                if !key.starts_with(SPOOLS) {
                    hash.update(&(key.len() as u64).to_le_bytes()).update(&key);
                    hash.update(&(value.len() as u64).to_le_bytes()).update(&value);
                }
            }
            let applied = crate::machine::read_applied(read)?;
            Ok::<_, Fault>((applied.index(), *hash.finalize().as_bytes()))
        })?;
        Ok(digest)
    }
}
