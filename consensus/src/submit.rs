//! Having a command carried out, from any node.
//!
//! # What it promises
//!
//! * Whoever submits gets an answer within [`SUBMIT_WAIT`].
//! * A proposal whose answer was lost is proposed again under the same key until then, at whatever node
//!   leads by now, and has one effect.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, RaftError};
use peerglass_catalog::{Command, NodeId, Outcome};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{ConsensusError, SubmitError};
use crate::handle::{Consensus, failed};
use crate::membership::Change;
use crate::network::wire::{Answer, Request};
use crate::raft::{Proposal, Reply};
use crate::session::ProposalKey;

/// How long a request waits for a leader and a majority before it is told that there is none. Less than
/// the 5 s a client may be kept waiting.
pub(crate) const SUBMIT_WAIT: Duration = Duration::from_secs(4);

/// Pause before asking again whether there is a leader.
pub(crate) const LEADER_POLL: Duration = Duration::from_millis(20);

/// What only a leader can do.
pub(crate) enum Ask {
    /// Propose this.
    Submit(Proposal),
    /// Say up to which entry a read must wait that begins now.
    ReadIndex,
    /// Change the membership.
    Change(Change),
}

/// A leader that heard of no majority for this long takes no proposals: several heartbeats and a half.
const QUORUM_SILENCE_MAX: Duration = Duration::from_secs(2);

/// The requests of this start of this node that are not over.
pub(crate) struct InFlight {
    node: NodeId,
    epoch: u64,
    sequences: Mutex<Sequences>,
    /// The lowest sequence that is not over, for whoever waits for it to grow.
    lowest: watch::Sender<u64>,
}

#[derive(Default)]
struct Sequences {
    last: u64,
    open: BTreeSet<u64>,
}

/// One request; it is over when this is dropped.
struct Ticket<'a> {
    of: &'a InFlight,
    key: ProposalKey,
    settled: u64,
}

impl InFlight {
    pub(crate) fn new(node: NodeId, epoch: u64) -> Self {
        Self { node, epoch, sequences: Mutex::default(), lowest: watch::Sender::new(1) }
    }

    fn begin(&self) -> Ticket<'_> {
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        sequences.last += 1;
        let sequence = sequences.last;
        sequences.open.insert(sequence);
        let settled = sequences.open.first().copied().unwrap_or(sequence);
        Ticket { of: self, key: ProposalKey { node: self.node, epoch: self.epoch, sequence }, settled }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut sequences = self.of.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        sequences.open.remove(&self.key.sequence);
        let lowest = sequences.open.first().copied().unwrap_or(sequences.last + 1);
        self.of.lowest.send_if_modified(|before| std::mem::replace(before, lowest) != lowest);
    }
}

impl Consensus {
    /// Have the cluster carry out `command`.
    ///
    /// `Ok` means it is durable on a majority and carried out where it was proposed. A failure means nothing
    /// is known: the command may have been carried out, or may be yet.
    pub async fn submit(&self, command: Command) -> Result<Outcome, SubmitError> {
        let ticket = self.inner().in_flight.begin();
        let command = Arc::new(command);
        let proposal = Proposal { key: ticket.key, settled: ticket.settled, command };
        let deadline = Instant::now() + SUBMIT_WAIT;
        let Answer::Reply(reply) = self.ask_leader(&Ask::Submit(proposal), deadline).await? else {
            return Err(ConsensusError::Unavailable.into());
        };
        match reply {
            Reply::Done(outcome) => Ok(outcome),
            Reply::Refused(refusal) => Err(SubmitError::Refused(refusal)),
            Reply::Nothing => Err(ConsensusError::Unavailable.into()),
        }
    }

    /// Resolves when every request that this node took before now is over, which takes no longer than
    /// four seconds. What is submitted afterwards has the last word: none of those requests that got
    /// no answer is carried out after it.
    pub async fn earlier_requests_over(&self) {
        let in_flight = &self.inner().in_flight;
        let now = in_flight.sequences.lock().unwrap_or_else(PoisonError::into_inner).last;
        let mut lowest = in_flight.lowest.subscribe();
        // An error means that this node ends, and its requests with it.
        let _ = lowest.wait_for(|lowest| *lowest > now).await;
    }

    /// Have the leader answer `ask`, whoever that is. Asks again until somebody says something
    /// other than that he does not lead, so it must bear being asked twice.
    pub(crate) async fn ask_leader(&self, ask: &Ask, deadline: Instant) -> Result<Answer, ConsensusError> {
        loop {
            if let Err(fatal) = &self.raft().metrics().borrow_watched().running_state {
                return Err(failed(fatal)); // whoever leads does not hear of it from here
            }
            let answer = match self.leader() {
                Some(leader) if leader == self.node() => {
                    let here = self.answer_here(ask);
                    timeout_at(deadline, here).await.map_err(|_| ConsensusError::Unavailable)?
                }
                Some(leader) => tokio::select! {
                    biased;
                    answer = timeout_at(deadline, self.answer_there(leader, ask, deadline)) => {
                        answer.map_err(|_| ConsensusError::Unavailable)?
                    }
                    // A leader that died says nothing; its successor is heard of sooner than the
                    // connection is given up.
                    () = self.leads_no_more(leader) => Answer::NotLeader(None),
                },
                None => Answer::NotLeader(None),
            };
            if !matches!(answer, Answer::NotLeader(_) | Answer::Unavailable | Answer::Ended) {
                return Ok(answer);
            }
            if matches!(answer, Answer::Ended) && self.leader() == Some(self.node()) {
                return Err(self.failure());
            }
            if Instant::now() + LEADER_POLL >= deadline {
                return Err(self.failure());
            }
            sleep(LEADER_POLL).await;
        }
    }

    /// Resolves when this node knows another leader than `leader`.
    pub(crate) async fn leads_no_more(&self, leader: NodeId) {
        // These change with the leader, not with every entry: each request that waits here would be woken.
        let mut server = self.raft().server_metrics();
        while server.borrow_and_update().current_leader.is_none_or(|current| current == leader.0) {
            if server.changed().await.is_err() {
                return;
            }
        }
    }

    /// Why nothing was answered: this node ended, or the cluster has no majority.
    fn failure(&self) -> ConsensusError {
        match &self.raft().metrics().borrow_watched().running_state {
            Err(fatal) => failed(fatal),
            Ok(()) => ConsensusError::Unavailable,
        }
    }

    async fn answer_here(&self, ask: &Ask) -> Answer {
        match ask {
            Ask::Submit(proposal) => self.propose_here(proposal.clone()).await,
            Ask::ReadIndex => self.read_index_here().await,
            Ask::Change(change) => self.change_here(change.clone()).await,
        }
    }

    async fn answer_there(&self, leader: NodeId, ask: &Ask, deadline: Instant) -> Answer {
        let request = match ask {
            Ask::Submit(proposal) => return self.forward(proposal.clone()).await,
            Ask::ReadIndex => Request::ReadIndex,
            Ask::Change(change) => Request::Change(change.clone()),
        };
        let Some(entry) = self.member(leader) else { return Answer::NotLeader(None) };
        self.links().ask((leader, &entry), &request, deadline).await.unwrap_or(Answer::Unavailable)
    }

    async fn forward(&self, proposal: Proposal) -> Answer {
        let (tell, told) = oneshot::channel();
        if self.inner().forward.send((proposal, tell)).await.is_err() {
            return Answer::Unavailable;
        }
        told.await.unwrap_or(Answer::Unavailable)
    }

    /// Propose as the leader, if this node is that.
    pub(crate) async fn propose_here(&self, proposal: Proposal) -> Answer {
        if self.lost_quorum() {
            // It would be kept in the log and not be committed, one after the other.
            return Answer::Unavailable;
        }
        match self.raft().client_write(proposal).await {
            Ok(response) => Answer::Reply(response.data),
            Err(RaftError::Fatal(_)) => Answer::Ended,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(leader))) => {
                Answer::NotLeader(leader.leader_id.map(NodeId))
            }
            Err(RaftError::APIError(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            )) => Answer::Unavailable,
        }
    }

    /// Whether this node leads and has not heard of a majority for a while.
    fn lost_quorum(&self) -> bool {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.voter_ids().eq([metrics.id]) {
            return false;
        }
        let heard = metrics.last_quorum_acked.as_ref().map(|at| openraft::TokioInstant::now() - **at);
        heard.is_some_and(|silence| silence > QUORUM_SILENCE_MAX)
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft().metrics().borrow_watched().current_leader.map(NodeId)
    }
}
