//! Asking the catalog, from any node.
//!
//! A linearizable read waits for a barrier: the leader says up to which entry everything is committed
//! that was acknowledged before the question, having made sure that it still leads, and the read waits
//! until that entry is applied here. One question to the leader serves every read that waited when it
//! was sent.

use std::sync::{Arc, Weak};

use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{LinearizableReadError, RaftError};
use peerglass_catalog::keyspace::{self, Read};
use peerglass_catalog::{Catalog, NodeEntry, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::error::ConsensusError;
use crate::handle::{Consensus, Inner};
use crate::machine;
use crate::mutation::{self, Mutation};
use crate::network::wire::Answer;
use crate::snapshot::install;
use crate::submit::{Ask, SUBMIT_WAIT};

/// Reads that may wait for one question. More than the API serves requests at once.
pub(crate) const WAITING_MAX: usize = 16_384;

/// Questions that take long and are answered at once: each takes a processor for itself.
pub(crate) const SCANS_MAX: usize = 2;

/// Somebody who wants to know which entry to wait for, and until when he waits.
pub(crate) type Waiter = (Instant, oneshot::Sender<Result<u64, ConsensusError>>);

/// Who the members are after one entry of the log: the same on every node that has applied it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The entry's index.
    pub at: u64,
    /// Every member, in order of their ids.
    pub nodes: Vec<(NodeId, NodeEntry)>,
}

impl Consensus {
    /// Ask the catalog a question. The answer takes every write into account that was acknowledged
    /// by any node before this call.
    pub async fn read<T>(&self, question: impl FnOnce(&Catalog<'_>) -> T) -> Result<T, ConsensusError> {
        if !mutation::is(Mutation::ReadWithoutBarrier) {
            self.pass_barrier().await?;
        }
        self.look(question)
    }

    /// Ask the state as it is. While a snapshot is installed over it there is nothing to ask.
    fn look<T>(&self, question: impl FnOnce(&Catalog<'_>) -> T) -> Result<T, ConsensusError> {
        keyspace::look(&**self.state(), |read| ask(read, question))
    }

    /// Ask the catalog as it is here, however old. Answers at once, also without a majority, and says
    /// which entry the answer is from.
    ///
    /// # Errors
    ///
    /// While a snapshot is being installed, and when the disk fails.
    pub fn read_stale<T>(
        &self,
        question: impl FnOnce(&Catalog<'_>) -> T,
    ) -> Result<(T, u64), ConsensusError> {
        // Read before the look, so that the answer is never older than it says.
        let applied = *self.applied().borrow();
        Ok((self.look(question)?, applied))
    }

    /// Ask the catalog as it is here, together with who the members were at the same entry.
    ///
    /// # Errors
    ///
    /// As for [`read_stale`](Self::read_stale).
    pub fn read_stale_with_members<T>(
        &self,
        question: impl FnOnce(&Catalog<'_>, &Members) -> T,
    ) -> Result<T, ConsensusError> {
        keyspace::look(&**self.state(), |read| {
            let applied = machine::read_applied(read)?;
            let nodes = applied.membership.nodes().map(|(node, entry)| (NodeId(*node), entry.clone()));
            let members = Members { at: applied.index(), nodes: nodes.collect() };
            ask(read, |catalog| question(catalog, &members))
        })
    }

    /// Ask the catalog as it is here, where a question that takes long holds up nobody. After a
    /// [`read`](Self::read) of anything, the answer is as new as that one's.
    ///
    /// # Errors
    ///
    /// As for [`read_stale`](Self::read_stale).
    pub async fn read_stale_apart<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Catalog<'_>) -> T + Send + 'static,
    ) -> Result<T, ConsensusError> {
        let place = Arc::clone(&self.inner().scans).acquire_owned().await;
        let place = place.map_err(|_| ConsensusError::Stopped)?;
        let (tell, told) = oneshot::channel();
        let look = move |read: &dyn Read| {
            let _ = tell.send(ask(read, question)); // unless the client has left
            drop(place);
        };
        Arc::clone(self.state()).view_apart(Box::new(look)).await;
        told.await.map_err(|_| ConsensusError::Stopped)?
    }

    async fn pass_barrier(&self) -> Result<(), ConsensusError> {
        let deadline = Instant::now() + SUBMIT_WAIT;
        let (tell, told) = oneshot::channel();
        let asked = timeout_at(deadline, self.inner().barrier.send((deadline, tell))).await;
        asked.map_err(|_| ConsensusError::Unavailable)?.map_err(|_| ConsensusError::Stopped)?;
        let index = timeout_at(deadline, told).await.map_err(|_| ConsensusError::Unavailable)?;
        let index = index.map_err(|_| ConsensusError::Stopped)??;
        let mut applied = self.applied();
        let reached = tokio::select! {
            biased;
            reached = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)) => reached,
            ended = self.ended() => return Err(ended), // it never will be applied
        };
        reached.map_err(|_| ConsensusError::Unavailable)?.map_err(|_| ConsensusError::Stopped)?;
        Ok(())
    }

    /// Which entry a read that begins now must wait for, as the leader knows it.
    pub(crate) async fn read_index_here(&self) -> Answer {
        if mutation::is(Mutation::LeaseKeptInIsolation) && self.leader() == Some(self.node()) {
            return Answer::ReadIndex(*self.applied().borrow());
        }
        match self.raft().get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Answer::ReadIndex(linearizer.read_log_id().log_id().index),
            Err(RaftError::Fatal(_)) => Answer::Ended,
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(leader))) => {
                Answer::NotLeader(leader.leader_id.map(NodeId))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Answer::Unavailable,
        }
    }

    /// Whether the newest state can be had now: for health checks.
    pub fn has_leader(&self) -> bool {
        self.raft().metrics().borrow_watched().current_leader.is_some()
    }
}

fn ask<T>(read: &dyn Read, question: impl FnOnce(&Catalog<'_>) -> T) -> Result<T, ConsensusError> {
    if install::is_under_way(read)? {
        return Err(ConsensusError::Unavailable);
    }
    Ok(question(&Catalog::new(read)))
}

/// Ask the leader for everybody who waits, again and again.
pub(crate) async fn barrier(consensus: Weak<Inner>, mut queue: mpsc::Receiver<Waiter>) {
    let mut waiting: Vec<Waiter> = Vec::new();
    while queue.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let Some(inner) = consensus.upgrade() else { return };
        let consensus = Consensus::of(inner);
        // Everybody in `waiting` asked before the question is sent, so one answer serves all. It is
        // asked until the last of them has lost patience; those who lose it earlier stop listening.
        let deadline = waiting.iter().map(|(deadline, _)| *deadline).max().unwrap_or_else(Instant::now);
        let answer = consensus.ask_leader(&Ask::ReadIndex, deadline).await;
        for (_, tell) in waiting.drain(..) {
            let index = match &answer {
                Ok(Answer::ReadIndex(index)) => Ok(*index),
                Ok(_) | Err(ConsensusError::Unavailable) => Err(ConsensusError::Unavailable),
                Err(ConsensusError::DiskFailed) => Err(ConsensusError::DiskFailed),
                Err(_) => Err(ConsensusError::Stopped),
            };
            let _ = tell.send(index); // whoever stopped listening has his answer
        }
    }
}
