//! Agreement on what exists.
//!
//! [`Consensus`] is the handle the rest of a node holds: submit a [`Command`], read the catalog,
//! watch it change. Behind it openraft orders commands in a replicated log and the
//! catalog decides what each one does. Nobody outside this package can tell how many voters there
//! are, or whether this node leads: every node takes every request. Nothing in it touches image bytes.
//!
//! # What it promises
//!
//! * A command is acknowledged only after its log entry is on disk, synced, on a majority of
//!   voters, and carried out by the leader. However often it was proposed, it has one effect.
//! * A read that starts after an acknowledgement sees what was acknowledged, on whichever nodes the two
//!   happen. Only [`Consensus::read_stale`] promises less, and says how old it is.
//! * Without a majority every read and write fails within five seconds, and a change of the membership within
//!   eight.
//! * Applied state and applied index change in one atomic write, so a crash never applies a command
//!   twice or skips one.
//! * When a disk fails, or turns out to be older than what other nodes saw of it, this node stops
//!   taking part. It never guesses.
//!
//! [`Command`]: peerglass_catalog::Command

mod cluster;
mod error;
mod forward;
mod handle;
mod identity;
mod keeper;
mod log;
mod machine;
mod membership;
pub mod mutation;
mod network;
mod raft;
mod read;
mod recover;
mod rocks;
mod session;
mod snapshot;
mod submit;
pub mod testing;

pub use cluster::{Admission, AdmitError, ClusterStatus, MemberStatus};
pub use error::{ConsensusError, OpenError, SubmitError};
pub use handle::{Consensus, ConsensusDisk, ConsensusSettings};
pub use identity::ClusterId;
pub use membership::ChangeError;
pub use network::Dial;
pub use read::Members;
pub use recover::{RecoverError, Recovery, adopt_cluster, belongs_to, recover, reserve_node};
pub use rocks::{RocksKeyspace, RocksRole};
