//! Image bytes: streams in, durable and verified chunks on disk, streams out.
//!
//! [`Transfer`] is the handle. An upload is cut into content-defined chunks named by BLAKE3, of which
//! only those the node does not hold yet are written, compressed where that pays (`form`), into one pack file per
//! upload; the chunks' order is a manifest, itself blobs in the pack, and the manifest's root is how the catalog names
//! the bytes. What another node has, this one can pull; what this one has, others can be made to hold
//! (`exchange`). Nothing here decides whether an image exists: the caller tells
//! [`reclaim`](Transfer::reclaim) what is still named.
//!
//! Start with `upload.rs` and `download.rs`, then `ledger.rs`, which decides what is kept, and
//! `exchange.rs`.

mod chunking;
mod connection;
mod directory;
pub mod disk;
mod download;
mod error;
mod exchange;
mod fail_stop;
mod form;
mod format;
mod gather;
mod index;
mod ledger;
pub mod mutation;
mod pack;
mod peers;
pub mod placement;
mod reclaim;
mod recover;
mod scrub;
mod segment;
mod settings;
mod store;
mod swarm;
mod traffic;
mod transfer;
mod upload;
mod workers;

pub use connection::{Calls, Connection, Io, Stream, Tcp, Transport};
pub use disk::{DirectoryPacks, MemoryPacks, PackDisk, PackFile, PackId, TransferDisk};
pub use download::Download;
pub use error::{DiskFailure, DownloadError, OpenError, ReclaimError, UploadError};
pub use exchange::{FetchError, Lie, PrefetchError, ReplicateError, Share, Temptation};
pub use format::{FormatRefusal, ImageFormat, VmdkFlaw};
pub use peers::{Keepers, PeerError, Peers, Place, Since};
pub use reclaim::{Evicted, Reclaimed, StateUnknown};
pub use scrub::Scrubbed;
pub use settings::TransferSettings;
pub use traffic::{Counts, Distance};
pub use transfer::{Transfer, Usage, WeakTransfer};
pub use upload::{CopyOrder, InspectOrder, StoredImage, UploadOrder};
pub use workers::Workers;
