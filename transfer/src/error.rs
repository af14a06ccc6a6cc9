//! Why bytes could not be taken, given or dropped, sorted by what the caller can do about it.

use std::error::Error;
use std::io;

use peerglass_catalog::keyspace::Fault;
use peerglass_catalog::{Digest, ManifestRoot};

use crate::disk::{PackId, is_full};
use crate::format::FormatRefusal;
use crate::gather::KeepError;

/// The machine failed: an operator has to act.
#[derive(Debug, thiserror::Error)]
pub enum DiskFailure {
    /// A pack could not be written, read, synced or removed.
    #[error("chunk packs: {0}")]
    Packs(#[from] io::Error),
    /// The index of the packs could not be read or written.
    #[error("chunk index: {0}")]
    Index(#[from] Fault),
    /// What this upload or an earlier one wrote does not read back.
    #[error("chunk packs: {0}")]
    Content(#[source] Box<DownloadError>),
    /// A worker ended without an answer, which only a bug can cause.
    #[error("a worker thread ended early")]
    WorkerLost,
}

impl DiskFailure {
    /// Whether it is only that there is no room: what needs none still works.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Packs(error) | Self::Index(Fault::Io(error)) => is_full(error),
            Self::Index(Fault::Damaged { .. }) | Self::Content(_) | Self::WorkerLost => false,
        }
    }
}

/// Why an upload was not stored. None of its bytes are kept.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The body is longer than allowed.
    #[error("the image is larger than the allowed {max} bytes")]
    TooLarge {
        /// Most bytes allowed.
        max: u64,
    },
    /// The body is not as long as the client said.
    #[error("{announced} bytes were announced and {received} arrived")]
    WrongSize {
        /// What the client said.
        announced: u64,
        /// What came until it ended, or until it was too much.
        received: u64,
    },
    /// The client broke off.
    #[error("the body ended early: {0}")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    /// The bytes are not an image that may be kept.
    #[error(transparent)]
    Format(FormatRefusal),
    /// The disk has no room for it.
    #[error("no space is left for the image")]
    Full,
    /// As many uploads as allowed are being received. Try again later.
    #[error("too many uploads are in progress")]
    Busy,
    /// The disk failed.
    #[error(transparent)]
    Disk(DiskFailure),
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

impl From<KeepError> for UploadError {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Full => Self::Full,
            KeepError::Disk(failure) => Self::Disk(failure),
        }
    }
}

/// Why bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// This node does not hold the manifest, and nor do its peers as far as they answer; or they stopped
    /// giving it half-way.
    #[error("manifest {} is not held here, and no peer gives it", .0.0)]
    Missing(ManifestRoot),
    /// The range reaches past the end, or ends before it begins.
    #[error("the range is not within the {size} bytes of the image")]
    OutOfRange {
        /// Bytes of the image.
        size: u64,
    },
    /// Bytes on this disk are not what was written. They were not handed out, and nothing stored
    /// later will rely on them.
    #[error("blob {digest} in pack {} is damaged", .pack.map_or("(lost)".to_owned(), |pack| pack.to_string()))]
    Damaged {
        /// The pack file; `None` if it is gone.
        pack: Option<PackId>,
        /// What should have been there.
        digest: Digest,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(DiskFailure),
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

impl DownloadError {
    /// Itself, if all it says is that some bytes cannot be had; otherwise what is wrong with the disk.
    ///
    /// A pack that cannot be read is of the first kind: a bad sector says nothing about other packs.
    pub(crate) fn of_some_bytes(self) -> Result<Self, DiskFailure> {
        match self {
            Self::Disk(
                failure @ (DiskFailure::Index(_) | DiskFailure::Content(_) | DiskFailure::WorkerLost),
            ) => Err(failure),
            error @ (Self::Disk(DiskFailure::Packs(_))
            | Self::Missing(_)
            | Self::OutOfRange { .. }
            | Self::Damaged { .. }
            | Self::Stopped) => Ok(error),
        }
    }
}

impl From<Fault> for DownloadError {
    fn from(fault: Fault) -> Self {
        Self::Disk(fault.into())
    }
}

impl From<io::Error> for DownloadError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.into())
    }
}

/// Why the packs cannot be opened. Nothing was changed that could not be done again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A sealed pack is not as it was written. Restore the file, or remove it to give its bytes up.
    #[error("pack {pack} is damaged: {reason}")]
    DamagedPack {
        /// The pack file.
        pack: PackId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A manifest in a pack that must be indexed again does not read back.
    #[error(transparent)]
    Content(#[from] DownloadError),
    /// The disk failed.
    #[error(transparent)]
    Disk(DiskFailure),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Disk(fault.into())
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.into())
    }
}

/// Why reclaim could not do all it should. What it did is whole, and the next run goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReclaimError<E> {
    /// It could not be learnt whether an image names the bytes.
    #[error("who names the bytes is not known: {0}")]
    Unknown(#[source] E),
    /// The disk failed, or the index has no room.
    #[error(transparent)]
    Disk(DiskFailure),
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

impl<E> ReclaimError<E> {
    /// Whether nothing more should be tried. What needs no room or is known already can still be done.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Disk(failure) => !failure.is_full(),
            Self::Unknown(_) => false,
            Self::Stopped => true,
        }
    }
}

impl<E> From<DiskFailure> for ReclaimError<E> {
    fn from(failure: DiskFailure) -> Self {
        Self::Disk(failure)
    }
}

impl<E> From<Fault> for ReclaimError<E> {
    fn from(fault: Fault) -> Self {
        Self::Disk(fault.into())
    }
}
