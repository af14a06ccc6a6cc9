//! What nodes say to each other about the log.
//!
//! A frame is `length:u32le version:u8 postcard`. The first stream of a connection carries the caller's
//! [`Greeting`] and the [`Welcome`] to it; every later stream one [`Request`] and its [`Answer`]. Only a
//! snapshot has more frames in a stream: see `snapshot`.

use std::fmt;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use peerglass_catalog::NodeId;
use quinn::{RecvStream, SendStream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::identity::{Boot, ClusterId};
use crate::membership::{Change, ChangeError};
use crate::raft::{LogId, Membership, Proposal, Reply, Types, Vote};
use crate::snapshot::spool::Title;

/// Version of everything below. A node that gets another one says so and closes.
pub(crate) const VERSION: u8 = 1;

/// Longest frame believed. Larger groups of entries are sent in parts.
pub(crate) const FRAME_BYTES_MAX: usize = 8 << 20;

/// Bytes of entries in one message, unless one entry alone has more.
pub(crate) const ENTRIES_BYTES_MAX: usize = 2 << 20;

/// Who calls, and whom he expects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) cluster: ClusterId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) boot: Boot,
    /// Last entry of the caller's log.
    pub(crate) last_index: u64,
    /// Where the caller is reached.
    pub(crate) address: String,
}

/// The answer to a greeting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Welcome {
    /// Go on. The same facts about the node that was called.
    Come { boot: Boot, last_index: u64 },
    /// Go away.
    Refused(NotWelcome),
}

/// Why a caller is sent away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotWelcome {
    /// It is of another cluster, or of this one before it was recovered.
    OtherCluster { here: ClusterId },
    /// Its key is no member's, or its log's id is not the one that was admitted.
    NotAMember,
    /// It wants somebody else: this node has another id by now.
    NotMe { here: NodeId },
    /// Its disk is older than what was seen of it.
    Amnesia { seen: u64 },
}

impl fmt::Display for NotWelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCluster { here } => write!(f, "it belongs to another cluster than {here}"),
            Self::NotAMember => f.write_str("it is not a member"),
            Self::NotMe { here } => write!(f, "the node it wants is not here any more, this is {}", here.0),
            Self::Amnesia { seen } => {
                write!(
                    f,
                    "its disk is older than what was seen of it (start {seen}): it forgot what it promised"
                )
            }
        }
    }
}

/// What one node asks of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    TransferLeader(TransferLeaderRequest<Types>),
    /// A snapshot follows on the same stream.
    Snapshot {
        vote: Vote,
        title: Title,
    },
    /// Propose these as the leader.
    Submit(Vec<Proposal>),
    /// Up to which entry must a read wait that begins now?
    ReadIndex,
    /// Change the membership as the leader.
    Change(Change),
    /// Who is in the cluster, as far as you know?
    Members,
    /// Up to which committed entry is your own log durable, leader?
    Stored,
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    TransferLeader(TransferLeaderResponse<Types>),
    Snapshot(SnapshotResponse<Types>),
    /// What a proposal came to.
    Reply(Reply),
    /// What each of several proposals came to, in their order.
    Many(Vec<Answer>),
    /// The entry a read must wait for.
    ReadIndex(u64),
    /// What a membership change came to.
    Changed(Result<(), ChangeError>),
    /// The membership, and the entry it is from.
    Members(Membership),
    /// The last committed entry that the leader itself has synced; 0 from anybody else.
    Stored(u64),
    /// Whoever was asked is not the leader, but knows who may be. Nothing was done.
    NotLeader(Option<NodeId>),
    /// Whoever was asked could not do it, or not in time. It may be done yet.
    Unavailable,
    /// Its disk failed or it is stopping.
    Ended,
}

/// Why a frame did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the stream broke: {0}")]
    Broken(String),
    #[error("a frame of {0} bytes is longer than any may be")]
    TooLong(usize),
    #[error("the peer speaks version {0} of the protocol, this node {VERSION}")]
    Version(u8),
    #[error("a frame does not decode")]
    Malformed,
}

/// Send one frame.
pub(crate) async fn send<T: Serialize>(stream: &mut SendStream, value: &T) -> Result<(), FrameError> {
    let mut frame = vec![0, 0, 0, 0, VERSION];
    frame = postcard::to_extend(value, frame).map_err(|_| FrameError::Malformed)?;
    send_encoded(stream, frame).await
}

async fn send_encoded(stream: &mut SendStream, mut frame: Vec<u8>) -> Result<(), FrameError> {
    let length = frame.len() - 4;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let length = u32::try_from(length).map_err(|_| FrameError::TooLong(length))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    stream.write_chunk(frame.into()).await.map_err(|error| FrameError::Broken(error.to_string()))
}

/// Receive one frame.
pub(crate) async fn receive<T: DeserializeOwned>(stream: &mut RecvStream) -> Result<T, FrameError> {
    let mut length = [0; 4];
    let broken = |error: quinn::ReadExactError| FrameError::Broken(error.to_string());
    stream.read_exact(&mut length).await.map_err(broken)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    // Grown as bytes arrive: a length alone must not cost memory.
    let mut frame = Vec::new();
    while frame.len() < length {
        let wanted = length - frame.len();
        let chunk = stream.read_chunk(wanted, true).await;
        let chunk = chunk.map_err(|error| FrameError::Broken(error.to_string()))?;
        let chunk = chunk.ok_or_else(|| FrameError::Broken("it ended early".to_owned()))?;
        if frame.is_empty() && chunk.bytes.len() == length {
            return decode(&chunk.bytes);
        }
        frame.extend_from_slice(&chunk.bytes);
    }
    decode(&frame)
}

fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
    match frame.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|_| FrameError::Malformed),
        Some((version, _)) => Err(FrameError::Version(*version)),
        None => Err(FrameError::Malformed),
    }
}

/// The answers to several proposals, as many as fit a frame; whoever gets none proposes again, and gets
/// what is remembered by then.
pub(crate) fn bounded(answers: Vec<Answer>) -> Answer {
    let mut bytes = 0;
    let bounded = answers.into_iter().map(|answer| {
        bytes += postcard::experimental::serialized_size(&answer).unwrap_or(FRAME_BYTES_MAX);
        if bytes <= FRAME_BYTES_MAX / 2 { answer } else { Answer::Unavailable }
    });
    Answer::Many(bounded.collect())
}

/// Leave the longest beginning of `request` that fits a message. Returns how many bytes its entries have,
/// and the last of them if some were left out.
pub(crate) fn fit(request: &mut AppendEntriesRequest<Types>) -> (usize, Option<LogId>) {
    use openraft::entry::RaftEntry;
    let (mut bytes, mut count) = (0, 0);
    for entry in &request.entries {
        let more = bytes + postcard::experimental::serialized_size(entry).unwrap_or(ENTRIES_BYTES_MAX);
        if count > 0 && more > ENTRIES_BYTES_MAX {
            break;
        }
        (bytes, count) = (more, count + 1);
    }
    let cut = (count < request.entries.len()).then(|| request.entries[count - 1].log_id());
    request.entries.truncate(count);
    (bytes, cut)
}
