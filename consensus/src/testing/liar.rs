//! A member whose greeting is good and whose messages are not.

use std::sync::Arc;

use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use peerglass_catalog::{Command, NodeId};
use quinn::{Connection, SendStream};

use crate::network::wire::{self, Answer, Greeting, Request, Welcome};
use crate::raft::{Meta, Proposal, Vote};
use crate::session::ProposalKey;
use crate::snapshot::spool::Title;
use crate::{Consensus, network};

/// Speaks over a connection of its own under the name and with the start of a member that runs.
pub struct Liar {
    connection: Connection,
    node: NodeId,
    epoch: u64,
}

/// A message that no honest member sends, or not again.
#[derive(Clone, Debug)]
pub enum Lie {
    /// "Vote for me in this term."
    Vote(u64),
    /// "Would you vote for me in this term?"
    PreVote(u64),
    /// "`leader` leads in `term`."
    Heartbeat {
        /// Who is said to lead.
        leader: NodeId,
        /// In which term.
        term: u64,
    },
    /// "`leader` of `term` wants you to lead."
    TransferLeader {
        /// Who is said to lead.
        leader: NodeId,
        /// In which term.
        term: u64,
    },
    /// "I lead in `term`, and this is the state": so many pieces are announced, and these follow.
    Snapshot {
        /// In which term.
        term: u64,
        /// How many pieces are announced.
        announced: u32,
        /// Each in a frame that is whole, whatever is in it.
        pieces: Vec<Vec<u8>>,
    },
    /// "This is request `sequence` of `node`."
    Propose {
        /// Whose request it is said to be.
        node: NodeId,
        /// Its number among that node's requests.
        sequence: u64,
        /// What to do.
        command: Box<Command>,
    },
    /// Bytes that are no message.
    Bytes(Vec<u8>),
}

impl Liar {
    /// Greet node `to`, at the other end of `connection`, as `member`.
    pub async fn greet(connection: Connection, member: &Consensus, to: NodeId) -> Result<Self, String> {
        let identity = &member.links().identity;
        let greeting = Greeting {
            cluster: identity.cluster,
            from: identity.node,
            to,
            boot: identity.boot,
            last_index: member.links().last_index(),
            address: member.links().address.clone(),
        };
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let (mut out, mut back) = connection.open_bi().await.map_err(|error| told(&error))?;
        wire::send(&mut out, &greeting).await.map_err(|error| told(&error))?;
        match wire::receive(&mut back).await.map_err(|error| told(&error))? {
            Welcome::Come { .. } => Ok(Self { connection, node: identity.node, epoch: identity.boot.epoch }),
            Welcome::Refused(why) => Err(told(&why)),
        }
    }

    /// Tell it on a stream of its own. The answer as it is written for people; `None` if the stream ends
    /// without one.
    pub async fn tell(&self, lie: &Lie) -> Option<String> {
        let (mut out, mut back) = self.connection.open_bi().await.ok()?;
        if let Lie::Bytes(bytes) = lie {
            out.write_all(bytes).await.ok()?;
        } else {
            wire::send(&mut out, &self.request(lie)?).await.ok()?;
        }
        if let Lie::Snapshot { pieces, .. } = lie {
            let _have: u32 = wire::receive(&mut back).await.ok()?;
            for piece in pieces {
                // Fails when nothing more is wanted.
                let _ = wire::send(&mut out, &network::snapshot::Piece(piece.clone())).await;
            }
        }
        let _ = out.finish(); // fails only on a stream that is reset, which the read reports
        let answer: Answer = wire::receive(&mut back).await.ok()?;
        Some(format!("{answer:?}"))
    }

    /// Open one stream more and say only the beginning of something on it. Waits as long as there are as many as
    /// may be.
    pub async fn begin_and_stop(&self) -> Option<SendStream> {
        let (mut out, _) = self.connection.open_bi().await.ok()?;
        out.write_all(&[200, 0, 0, 0, wire::VERSION]).await.ok()?;
        Some(out)
    }

    fn request(&self, lie: &Lie) -> Option<Request> {
        let vote = |term| Vote::new(term, self.node.0);
        let leads = |term, leader: NodeId| Vote::new_committed(term, leader.0);
        Some(match lie {
            Lie::Vote(term) => Request::Vote(VoteRequest::new(vote(*term), None)),
            Lie::PreVote(term) => Request::PreVote(VoteRequest::new(vote(*term), None)),
            Lie::Heartbeat { leader, term } => Request::Append(AppendEntriesRequest {
                vote: leads(*term, *leader),
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            }),
            Lie::TransferLeader { leader, term } => {
                Request::TransferLeader(TransferLeaderRequest::new(leads(*term, *leader), self.node.0, None))
            }
            Lie::Snapshot { term, announced, .. } => Request::Snapshot {
                vote: leads(*term, self.node),
                title: Title { meta: Meta::default(), pieces: *announced, digest: [7; 32] },
            },
            Lie::Propose { node, sequence, command } => Request::Submit(vec![Proposal {
                key: ProposalKey { node: *node, epoch: self.epoch, sequence: *sequence },
                settled: 1,
                command: Arc::new(Command::clone(command)),
            }]),
            Lie::Bytes(_) => return None,
        })
    }
}
