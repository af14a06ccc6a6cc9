//! Answers to other nodes.
//!
//! A connection is served only after its caller's key was found among the members and its greeting was
//! accepted. Everything refused is told to the caller in a word, logged here once, and closed.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{Fatal, RaftError};
use peerglass_catalog::node::NODE_TEXT_BYTES_MAX;
use peerglass_catalog::{NodeId, NodeRole, PeerKey};
use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::belief;
use super::links::{CLOSE_AMNESIA, CLOSE_REFUSED};
use super::snapshot;
use super::wire::{self, Answer, FrameError, Greeting, NotWelcome, Request, Welcome};
use crate::handle::Consensus;
use crate::membership::{self, CHANGE_WAIT};
use crate::raft::{Membership, Types};
use crate::submit::SUBMIT_WAIT;

/// How long a caller may take to greet, and to send a request once it opened a stream.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

impl Consensus {
    /// Answer the requests of one connection whose other end proved to have `key`, until it ends.
    ///
    /// Strangers are told so and sent away.
    pub async fn serve(self, connection: Connection, key: PeerKey) {
        let greeted = timeout(REQUEST_TIMEOUT, self.greeted(&connection, key)).await;
        let from = match greeted {
            Ok(Ok(from)) => from,
            Ok(Err(error)) => {
                tracing::debug!(peer = %key, remote = %connection.remote_address(), %error, "no greeting");
                return connection.close(CLOSE_REFUSED, b"no greeting");
            }
            Err(_) => return connection.close(CLOSE_REFUSED, b"no greeting in time"),
        };
        let Some(from) = from else { return };
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = answers.join_next(), if !answers.is_empty() => {}
                stream = connection.accept_bi() => match stream {
                    // No more at once than the peer port lets a connection have streams.
                    Ok((out, back)) => {
                        if self.member(from).is_none_or(|entry| entry.key != key) {
                            tracing::warn!(node = from.0, "a peer is no member any more");
                            return connection.close(CLOSE_REFUSED, b"not a member any more");
                        }
                        answers.spawn(self.clone().answer(from, out, back));
                    }
                    Err(quinn::ConnectionError::ApplicationClosed(closed))
                        if closed.error_code == CLOSE_AMNESIA =>
                    {
                        self.links().mark_amnesia();
                        return;
                    }
                    Err(_) => return,
                },
            }
        }
    }

    /// Who greets, or `None` if it was sent away.
    async fn greeted(&self, connection: &Connection, key: PeerKey) -> Result<Option<NodeId>, FrameError> {
        let broken = |error: quinn::ConnectionError| FrameError::Broken(error.to_string());
        let (mut out, mut back) = connection.accept_bi().await.map_err(broken)?;
        let greeting: Greeting = wire::receive(&mut back).await?;
        let welcome = match self.check_greeting(&greeting, key) {
            Ok(()) => {
                let (boot, last_index) = (self.links().identity.boot, self.links().last_index());
                Welcome::Come { boot, last_index }
            }
            Err(why) => {
                let remote = connection.remote_address();
                tracing::warn!(peer = %key, node = greeting.from.0, %remote, "refused a peer: {why}");
                Welcome::Refused(why)
            }
        };
        wire::send(&mut out, &welcome).await?;
        let _ = out.finish(); // fails only on a stream that is reset
        if matches!(welcome, Welcome::Refused(_)) {
            // The answer first: closing throws away what is not acknowledged yet.
            let _ = timeout(Duration::from_secs(1), out.stopped()).await;
            connection.close(CLOSE_REFUSED, b"refused");
            return Ok(None);
        }
        self.heard_of(greeting.from, greeting.address);
        Ok(Some(greeting.from))
    }

    /// A member may have moved; the leader has everybody know.
    fn heard_of(&self, node: NodeId, address: String) {
        let fits = !address.is_empty() && address.len() <= NODE_TEXT_BYTES_MAX;
        if fits && self.member(node).is_some_and(|entry| entry.address != address) {
            self.moved().insert(node, address);
        }
    }

    fn check_greeting(&self, greeting: &Greeting, key: PeerKey) -> Result<(), NotWelcome> {
        let identity = &self.links().identity;
        if greeting.cluster != identity.cluster {
            return Err(NotWelcome::OtherCluster { here: identity.cluster });
        }
        if self.member(greeting.from).is_none_or(|entry| entry.key != key) {
            return Err(NotWelcome::NotAMember);
        }
        if greeting.to != identity.node {
            return Err(NotWelcome::NotMe { here: identity.node });
        }
        self.links().remember(greeting.from, greeting.boot, greeting.last_index)
    }

    async fn answer(self, from: NodeId, mut out: SendStream, mut back: RecvStream) {
        let request = match timeout(REQUEST_TIMEOUT, wire::receive::<Request>(&mut back)).await {
            Ok(Ok(request)) => request,
            Ok(Err(FrameError::Broken(_))) | Err(_) => return,
            Ok(Err(error)) => return tracing::warn!(node = from.0, %error, "a peer sent what is no request"),
        };
        if *self.links().amnesia().borrow() {
            return; // this node ends in a moment, and promises nothing more
        }
        if let Some(lie) = self.lie(from, &request) {
            return tracing::warn!(node = from.0, "a peer is not believed: {lie}");
        }
        let answer = if let Request::Snapshot { vote, title } = request {
            if vote.leader_id.voted_for != from.0 || !vote.committed {
                return tracing::warn!(node = from.0, "a peer sends a snapshot for another one");
            }
            self.hear(&vote);
            let streams = (&mut out, &mut back);
            let (raft, state) = (self.raft(), self.state());
            match snapshot::receive(raft, state, self.receiving(), (vote, title), streams).await {
                Ok(response) => Answer::Snapshot(response),
                Err(error) => return tracing::warn!(node = from.0, %error, "a snapshot was not received"),
            }
        } else {
            // An asker waits no longer, and its stream must not stay taken.
            timeout(CHANGE_WAIT, self.reply(from, request)).await.unwrap_or(Answer::Unavailable)
        };
        if let Err(error) = wire::send(&mut out, &answer).await {
            tracing::debug!(node = from.0, %error, "an answer was not sent");
        }
    }

    /// What is wrong with a request that no honest member sends.
    fn lie(&self, from: NodeId, request: &Request) -> Option<&'static str> {
        let term = self.raft().metrics().borrow_watched().current_term;
        if !belief::is_believable(belief::vote_of_request(request), term) {
            return Some("its term is beyond any that this cluster can have reached");
        }
        let elects = matches!(request, Request::Vote(_) | Request::PreVote(_));
        // Its own log may not say yet that it has to follow only.
        let follows = || {
            let members = membership::effective(self.raft());
            let votes = members.voter_ids().any(|voter| voter == from.0);
            !votes && members.get_node(&from.0).is_some_and(|entry| entry.role == NodeRole::Learner)
        };
        (elects && follows()).then_some("it asks for votes and is to follow only")
    }

    async fn reply(&self, from: NodeId, request: Request) -> Answer {
        // Raft's own messages are of this sender, or of nobody this node believes.
        match request {
            Request::Append(request) if request.vote.leader_id.voted_for == from.0 => {
                self.hear(&request.vote);
                or_ended(self.raft().append_entries(request).await.map(Answer::Append))
            }
            Request::Vote(request) if request.vote.leader_id.voted_for == from.0 => {
                or_ended(self.raft().vote(request).await.map(Answer::Vote))
            }
            Request::PreVote(request) if request.vote.leader_id.voted_for == from.0 => {
                or_ended(self.raft().pre_vote(request).await.map(Answer::Vote))
            }
            Request::TransferLeader(request) if request.from_leader().leader_id.voted_for == from.0 => {
                match self.raft().handle_transfer_leader(request).await {
                    Ok(answer) => Answer::TransferLeader(answer),
                    Err(fatal) => ended(&fatal),
                }
            }
            Request::Append(_)
            | Request::Vote(_)
            | Request::PreVote(_)
            | Request::TransferLeader(_)
            | Request::Snapshot { .. } => {
                tracing::warn!(node = from.0, "a peer speaks for another one");
                Answer::Unavailable
            }
            Request::Submit(proposals) => {
                let proposed = proposals.into_iter().map(|proposal| async {
                    // A key of another node, or of no start of this one, would spoil what is remembered.
                    if proposal.key.node != from || proposal.key.epoch == 0 {
                        tracing::warn!(node = from.0, "a peer proposes for another one");
                        return Answer::Unavailable;
                    }
                    let proposed = timeout(SUBMIT_WAIT, self.propose_here(proposal)).await;
                    proposed.unwrap_or(Answer::Unavailable)
                });
                wire::bounded(futures::future::join_all(proposed).await)
            }
            Request::ReadIndex => {
                let answer = self.read_index_here().await;
                if let Answer::ReadIndex(index) = answer {
                    self.links().awaited.raise(index);
                }
                answer
            }
            Request::Change(change) => self.change_here(change).await,
            Request::Members => Answer::Members(Membership::clone(&membership::effective(self.raft()))),
            Request::Stored => Answer::Stored(self.stored().get(&self.node()).copied().unwrap_or(0)),
        }
    }
}

fn or_ended(answer: Result<Answer, RaftError<Types>>) -> Answer {
    match answer {
        Ok(answer) => answer,
        Err(RaftError::Fatal(fatal)) => ended(&fatal),
        Err(RaftError::APIError(infallible)) => match infallible {},
    }
}

fn ended(_fatal: &Fatal<Types>) -> Answer {
    Answer::Ended
}

/// Shared by the streams of all connections.
pub(crate) type Receiving = Arc<tokio::sync::Mutex<()>>;
