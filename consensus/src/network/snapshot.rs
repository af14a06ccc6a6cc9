//! A snapshot on its way: pieces in order, resumed where they broke off, no faster than allowed.
//!
//! ```text
//! caller   Request::Snapshot { vote, title }
//! callee   u32: how many pieces it has already
//! caller   Vec<u8>: each piece from there on
//! callee   Answer::Snapshot, when it is installed
//! ```
//!
//! Both ends do one at a time: a spool is one place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::raft::SnapshotResponse;
use peerglass_catalog::keyspace::Keyspace;
use peerglass_catalog::{Fault, NodeEntry, NodeId};
use quinn::{RecvStream, SendStream};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::links::{LinkError, Links};
use super::serve::Receiving;
use super::wire::{self, Answer, FrameError, Request};
use crate::raft::{Raft, Types, Vote};
use crate::snapshot::install::{self, Unfit};
use crate::snapshot::spool::{self, PIECE_BYTES, Title, Way};
use crate::snapshot::{RaftSnapshot, SnapshotData};

/// Silence after which a transfer is broken off; it goes on where it was.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an installation may take.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

/// Pieces of a snapshot that are believed: 2 TiB of catalog.
const PIECES_MAX: u32 = 1 << 22;

/// How fast snapshots may be sent, how old they may be, and that one is sent at a time.
#[derive(Clone)]
pub(crate) struct Pace {
    bytes_per_s: u64,
    /// Entries a spool may be behind and still be sent.
    age_entries_max: u64,
    sending: Arc<Mutex<()>>,
}

impl Pace {
    /// The log keeps `entries_kept` behind a snapshot: the receiver needs the other half of them when it is
    /// done.
    pub(crate) fn new(bytes_per_s: u64, entries_kept: u64) -> Self {
        let age_entries_max = (entries_kept / 2).max(SPOOL_AGE_ENTRIES_MIN);
        Self { bytes_per_s, age_entries_max, sending: Arc::default() }
    }

    /// Wait as long as `bytes` may take.
    async fn wait(&self, bytes: usize) {
        let nanoseconds = (bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_s.max(1);
        sleep(Duration::from_nanos(nanoseconds)).await;
    }
}

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("another snapshot is being sent")]
    Busy,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("no progress for {PROGRESS_TIMEOUT:?}")]
    Stalled,
    #[error("the peer gave no fitting answer")]
    Unexpected,
    #[error("it is not fit to be installed: {0}")]
    Unfit(#[from] Unfit),
    #[error("it could not be installed: {0}")]
    Install(io::Error),
}

/// Send to `peer` the state as it was at entry `announced`, or at a later one.
pub(crate) async fn send(
    links: &Links,
    peer: (NodeId, &NodeEntry),
    state: &Arc<dyn Keyspace>,
    (vote, announced): (Vote, u64),
    pace: &Pace,
) -> Result<SnapshotResponse<Types>, SnapshotError> {
    let alone = Arc::clone(&pace.sending).try_lock_owned().map_err(|_| SnapshotError::Busy)?;
    let alone = Arc::new(alone);
    // A transfer that broke off goes on with the spool it began with.
    let title = match spool::title(&**state, Way::Out)? {
        Some(title) if serves(state, &title, announced, pace.age_entries_max)? => title,
        _ => spool::make(state, Arc::clone(&alone)).await?,
    };
    let opened = timeout(PROGRESS_TIMEOUT, links.open(peer)).await;
    let (mut out, mut back) = opened.map_err(|_| SnapshotError::Stalled)??;
    in_time(wire::send(&mut out, &Request::Snapshot { vote, title: title.clone() })).await?;
    let have: u32 = in_time(wire::receive(&mut back)).await?;
    tracing::info!(node = peer.0.0, pieces = title.pieces, have, "sending a snapshot");
    for number in have..title.pieces {
        let piece = spool::piece(&**state, Way::Out, number)?.ok_or(SnapshotError::Unexpected)?;
        let bytes = piece.len();
        in_time(wire::send(&mut out, &Piece(piece))).await?;
        pace.wait(bytes).await;
    }
    let _ = out.finish(); // fails only on a stream that is reset, which the read reports
    let answer = timeout(INSTALL_TIMEOUT, wire::receive(&mut back)).await;
    let Answer::Snapshot(response) = answer.map_err(|_| SnapshotError::Stalled)?? else {
        return Err(SnapshotError::Unexpected);
    };
    tracing::info!(node = peer.0.0, "a snapshot was installed");
    Ok(response)
}

/// Whether a spool may be sent: Raft believes that the receiver then has everything up to `announced`,
/// and the log must still join it to the present.
fn serves(
    state: &Arc<dyn Keyspace>,
    title: &Title,
    announced: u64,
    age_entries_max: u64,
) -> Result<bool, Fault> {
    let applied = peerglass_catalog::keyspace::look(&**state, crate::machine::read_applied)?;
    let spooled = title.meta.last_log_id.as_ref().map_or(0, |id| id.index);
    Ok(spooled >= announced && applied.index().saturating_sub(spooled) <= age_entries_max)
}

/// The same where the log keeps next to nothing: the receiver then may need another one at once.
const SPOOL_AGE_ENTRIES_MIN: u64 = 500;

/// The bytes of one piece, written at once: postcard would write a vector byte by byte.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Piece(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

async fn in_time<T>(step: impl Future<Output = Result<T, FrameError>>) -> Result<T, SnapshotError> {
    Ok(timeout(PROGRESS_TIMEOUT, step).await.map_err(|_| SnapshotError::Stalled)??)
}

/// Receive what `title` names and install it.
pub(crate) async fn receive(
    raft: &Raft,
    state: &Arc<dyn Keyspace>,
    receiving: &Receiving,
    (vote, title): (Vote, Title),
    (out, back): (&mut SendStream, &mut RecvStream),
) -> Result<SnapshotResponse<Types>, SnapshotError> {
    if title.pieces > PIECES_MAX {
        return Err(SnapshotError::Unexpected);
    }
    let alone = Arc::clone(receiving).try_lock_owned().map_err(|_| SnapshotError::Busy)?;
    let have = spool::expect(&**state, &title)?;
    wire::send(out, &have).await?;
    for number in have..title.pieces {
        let Piece(piece) = in_time(wire::receive(back)).await?;
        if piece.len() > PIECE_BYTES {
            return Err(SnapshotError::Unexpected);
        }
        spool::keep(&**state, number, piece)?;
    }
    install::check(state, title.clone()).await?;
    let data = SnapshotData::Received { state: Arc::clone(state), _alone: alone };
    let snapshot: RaftSnapshot = openraft::Snapshot { meta: title.meta, snapshot: data };
    let installed = raft.install_full_snapshot(vote, snapshot).await;
    installed.map_err(|fatal| SnapshotError::Install(io::Error::other(fatal.to_string())))
}
