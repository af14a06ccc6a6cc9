//! One pull: everything a manifest names and this node does not hold, fetched, verified and kept.
//!
//! First the root, from whoever has something. Then its pages and the chunks they name, piece by piece, as
//! the plan of the swarm says (`swarm`): it hears what peers have and what readers wait for, and says what
//! to ask of whom. What has been written can be read, here and by peers, before the pull is done.
//!
//! # What it promises
//!
//! * What is held soundly already is not fetched again. Holes are never asked for.
//! * Bytes that are not what they were asked for by are dropped, and whoever sent them is not asked again.
//! * It ends: when nobody who can be reached has what is missing, and also when everybody waits for each other.
//! * Dropped at any await, it leaves its checkpoints, with which the next one goes on, and else nothing, or what reclaim
//!   removes.

mod contents;
mod intake;
mod piece;
mod root;
mod rounds;

use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::manifest::{ManifestError, PAGE_ENTRIES_MAX, PAGES_MAX, Root};
use peerglass_catalog::{Digest, ManifestRoot};
use tokio::sync::watch;

use super::ahead::PART_PAGES_MAX;
use super::ask::AskError;
use super::follow::Followed;
use super::pulls::{Pull, Purpose, View};
use super::wire::{Breach, HoldRefusal};
use crate::error::{DiskFailure, DownloadError};
use crate::gather::{Gather, KeepError, commit};
use crate::pack::BlobKind;
use crate::store::BlobReader;
use crate::transfer::Inner;
use intake::Intake;
use root::RootFetch;
use rounds::Rounds;

/// Longest page: flags, two lengths and a digest for each entry.
pub(crate) const PAGE_BYTES_MAX: u32 = 16 + PAGE_ENTRIES_MAX as u32 * 48;
/// Longest root: a length and a digest for each page. Only images of terabytes come near.
const ROOT_BYTES_MAX: u32 = 64 + PAGES_MAX as u32 * 42;

/// Longest image that is pulled, 64 TiB: what a root can list. Only a made-up root says more.
const PLAIN_LEN_MAX: u64 = 64 << 40;

/// Why a manifest was not pulled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("no peer has the bytes")]
    NoSource,
    /// The bytes are those named, and are no manifest that this release can keep.
    #[error("it cannot be used: {0}")]
    Unusable(#[from] ManifestError),
    /// A page covers another length than its root says, or a chunk is stored in an unknown form.
    #[error("its pages contradict its root, it is longer than can be, or of a newer release")]
    Contradiction,
    /// A worker was lost.
    #[error(transparent)]
    Worker(DiskFailure),
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("too much is being pulled")]
    Busy,
    #[error("this node is stopping")]
    Stopped,
}

impl PullError {
    /// As others are told.
    pub(crate) fn refusal(&self) -> HoldRefusal {
        match self {
            Self::NoSource => HoldRefusal::NoSource,
            Self::Keep(KeepError::Full) => HoldRefusal::Full,
            Self::Busy => HoldRefusal::Busy,
            Self::Stopped => HoldRefusal::Stopping,
            Self::Worker(_) | Self::Unusable(_) | Self::Contradiction | Self::Keep(KeepError::Disk(_)) => {
                HoldRefusal::Failed
            }
        }
    }
}

/// Pull `root` from those followed.
pub(super) async fn run(
    transfer: &Arc<Inner>,
    root: ManifestRoot,
    mut followed: Followed,
    pull: &Pull,
    says: &watch::Sender<View>,
) -> Result<(), PullError> {
    let slot = match pull.purpose {
        Purpose::Hold => transfer.pulls.slots.acquire().await.map_err(|_| PullError::Stopped),
        Purpose::Ahead => transfer.pulls.ahead_slots.try_acquire().map_err(|_| PullError::Busy),
    };
    let _slot = slot?;
    says.send_modify(|view| view.begun = true);
    let mut gather = Gather::new(transfer, Arc::clone(&pull.progress));
    if pull.purpose == Purpose::Ahead {
        gather.show_pages();
    }
    let (gather, mut held) = held_blobs(transfer, gather, vec![root.0]).await?;
    let (mut heard, mut rounds) = (Vec::new(), Rounds::new(root));
    heed_met(&mut followed, pull);
    followed.everybody();
    let encoded = match held.pop().flatten() {
        Some(held) => held,
        None => RootFetch::new(transfer, pull, root).run(&mut followed, &mut rounds, &mut heard).await?,
    };
    let decoded = Arc::new(Root::decode(&encoded)?);
    if decoded.plain_len() > PLAIN_LEN_MAX {
        return Err(PullError::Contradiction);
    }
    if pull.purpose == Purpose::Ahead && decoded.pages().len() > PART_PAGES_MAX {
        return Err(PullError::Contradiction);
    }
    says.send_modify(|view| view.root = Some(Arc::clone(&decoded)));
    // So that peers can have it from here as soon as anything. It is written last: a pack with a root is taken for one
    // with which all of it was here.
    pull.progress.show(root.0, encoded.clone());
    let mut intake = Intake::new(transfer, (pull, says), followed, (root, Arc::clone(&decoded)), rounds);
    let mut gather = intake.receive(gather, heard).await?;
    let mut checkpoints = intake.finish();
    if pull.purpose == Purpose::Ahead {
        return Ok(checkpoints.finish_with(gather).await?);
    }
    let last = move || {
        gather.add_blob(root.0, encoded, BlobKind::Root)?;
        Ok::<_, KeepError>(gather)
    };
    let gather = transfer.workers.run(last).await.map_err(KeepError::Disk)??;
    let root_again = Arc::unwrap_or_clone(decoded);
    commit(transfer, gather.finish(root, root_again)).await?;
    Ok(())
}

/// A peer that broke the protocol is not asked again.
fn count_breach(transfer: &Inner, error: &AskError) {
    if let AskError::Breach(breach) = error {
        transfer.traffic.banned();
        if *breach == Breach::WrongBytes {
            transfer.traffic.hash_failed();
        }
    }
}

/// Follow whoever was met.
fn heed_met(followed: &mut Followed, pull: &Pull) {
    for (node, connection) in pull.met() {
        followed.also(node, connection);
    }
}

/// Those of the blobs that this node holds soundly, which it then relies on.
async fn held_blobs(
    transfer: &Arc<Inner>,
    mut gather: Gather,
    digests: Vec<Digest>,
) -> Result<(Gather, Vec<Option<Bytes>>), KeepError> {
    let mut reader = BlobReader::new(transfer.store.clone());
    let read = move || {
        let mut held = Vec::with_capacity(digests.len());
        for digest in &digests {
            held.push(match gather.is_new(digest)? {
                true => None,
                false => match reader.blob(digest) {
                    Ok(bytes) => Some(Bytes::from(bytes)),
                    // Known to be so from now on, hence new.
                    Err(DownloadError::Damaged { .. }) => None,
                    Err(error) => return Err(error.into()),
                },
            });
        }
        Ok((gather, held))
    };
    transfer.workers.run(read).await.map_err(KeepError::Disk)?
}
