//! Agreement on what exists.
//!
//! [`Consensus`] is the handle the rest of a node holds: submit a [`Command`], read the catalog,
//! watch it change. Behind it openraft orders commands in a replicated log and the
//! catalog decides what each one does. Nobody outside this package can tell how many voters there
//! are, and nothing in it touches image bytes.
//!
//! # What it promises
//!
//! * A command is acknowledged only after its log entry is on disk, synced, on a majority of
//!   voters, and applied here.
//! * A read that starts after an acknowledgement sees what was acknowledged.
//! * Applied state and applied index change in one atomic write, so a crash never applies a command
//!   twice or skips one.
//! * When a disk fails, this node stops taking part. It never guesses.
//!
//! [`Command`]: peerglass_catalog::Command

mod error;
mod handle;
mod log;
mod machine;
mod network;
mod raft;
mod rocks;
mod snapshot;
pub mod testing;

pub use error::{ConsensusError, OpenError, SubmitError};
pub use handle::{Consensus, ConsensusDisk, ConsensusSettings};
pub use rocks::{RocksKeyspace, RocksRole};
