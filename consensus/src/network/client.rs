//! openraft's network: each message is one request over a [link](super::links).

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use peerglass_catalog::keyspace::Keyspace;
use peerglass_catalog::{NodeEntry, NodeId};
use tokio::time::Instant;

use super::belief;
use super::links::{LinkError, Links};
use super::snapshot::{self, Pace};
use super::wire::{self, Answer, Request};
use crate::raft::{Types, Vote};
use crate::snapshot::{RaftSnapshot, SnapshotData};

/// Shortest time a message gets, so that a round trip between sites fits.
const PATIENCE_MIN: Duration = Duration::from_millis(500);

/// The slowest link that entries are expected to pass.
const LINK_BYTES_PER_S_MIN: u64 = 64 << 10;

/// Makes a client for each node.
pub(crate) struct Network {
    pub(crate) links: Arc<Links>,
    pub(crate) state: Arc<dyn Keyspace>,
    pub(crate) pace: Pace,
}

/// What became of each message.
type Appended<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

/// Talks to one node.
pub(crate) struct Client {
    node: NodeId,
    entry: NodeEntry,
    links: Arc<Links>,
    state: Arc<dyn Keyspace>,
    pace: Pace,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &NodeEntry) -> Client {
        Client {
            node: NodeId(target),
            entry: node.clone(),
            links: Arc::clone(&self.links),
            state: Arc::clone(&self.state),
            pace: self.pace.clone(),
        }
    }
}

impl Client {
    async fn ask(&self, request: Request, option: &RPCOption) -> Result<Answer, RPCError<Types>> {
        self.ask_with_time(request, option, Duration::ZERO).await
    }

    /// As [`ask`](Self::ask), with as much time more.
    async fn ask_with_time(
        &self,
        request: Request,
        option: &RPCOption,
        more: Duration,
    ) -> Result<Answer, RPCError<Types>> {
        let deadline = Instant::now() + option.soft_ttl().max(PATIENCE_MIN) + more;
        let answer = self.links.ask((self.node, &self.entry), &request, deadline).await;
        let answer = answer.map_err(|error| match error {
            LinkError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
            LinkError::NoAnswer { .. } => RPCError::Network(NetworkError::new(&error)),
        })?;
        let term = belief::vote_of_request(&request).map_or(0, |vote| vote.leader_id.term);
        if !belief::is_believable(belief::vote_of_answer(&answer), term) {
            tracing::warn!(node = self.node.0, "a peer is not believed: its term is beyond any that can be");
            return Err(unexpected());
        }
        Ok(answer)
    }
}

/// How long entries of so many bytes may be under way on a slow link. A heartbeat has none and must be in time.
fn time_for(bytes: usize) -> Duration {
    Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / LINK_BYTES_PER_S_MIN)
}

/// The answer does not belong to the request: a peer that does not keep to the protocol.
fn unexpected() -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&AnyError::error("the peer gave no fitting answer")))
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        mut request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (bytes, cut) = wire::fit(&mut request);
        let asked = self.ask_with_time(Request::Append(request), &option, time_for(bytes));
        let Answer::Append(answer) = asked.await? else {
            return Err(unexpected());
        };
        if cut.is_some() && answer.is_success() {
            return Ok(AppendEntriesResponse::PartialSuccess(cut));
        }
        Ok(answer)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        messages: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Appended<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let messages = self.links.awaited.gather(messages);
        stream_append_sequential(self, messages, option)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let Answer::Vote(answer) = self.ask(Request::Vote(request), &option).await? else {
            return Err(unexpected());
        };
        Ok(answer)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let Answer::Vote(answer) = self.ask(Request::PreVote(request), &option).await? else {
            return Err(unexpected());
        };
        Ok(answer)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let Answer::TransferLeader(answer) = self.ask(Request::TransferLeader(request), &option).await?
        else {
            return Err(unexpected());
        };
        Ok(answer)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        // What is sent is a state of this node that is what was announced or newer.
        let announced = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let peer = (self.node, &self.entry);
        let sent = snapshot::send(&self.links, peer, &self.state, (vote, announced), &self.pace);
        tokio::select! {
            biased;
            sent = sent => sent.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error))),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}
