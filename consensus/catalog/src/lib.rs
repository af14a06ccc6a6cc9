//! The image catalog: what the cluster agrees on.
//!
//! Every node holds one catalog in an ordered key-value store. Consensus decides the order of
//! [`Command`]s, and [`apply`] decides what each one does. Nothing here waits, reads a clock, draws
//! a random number or touches a disk, so two replicas that apply the same commands hold the same
//! catalog, whether the store is RocksDB or a map in memory.
//!
//! Start with [`Command`]: its variants are the complete list of ways the catalog can change. Then
//! [`Catalog`], the complete list of questions it answers.

mod catalog;
mod command;
mod digest;
mod image;
mod index;
mod join;
mod keeping;
pub mod keyspace;
pub mod manifest;
mod memory;
pub mod node;
mod overlay;
mod query;
mod refusal;
pub mod snapshot;
mod table;
pub mod testing;
mod ticket;

pub use catalog::{Catalog, apply};
pub use command::{Command, Outcome};
pub use digest::Digest;
pub use image::{
    Content, Edit, HashAlgorithm, Image, ImageId, InvalidImageId, Limits, ManifestRoot, NodeId, Presence,
    Status, StoreId, Timestamp, Upload, UploadId, Visibility,
};
pub use keeping::{KeptImage, Naming};
pub use keyspace::{Batch, Fault, Keyspace};
pub use memory::{MemoryKeyspace, apply_batch};
pub use node::{JoinGrant, JoinToken, NodeEntry, NodeRole, PeerKey, TokenDigest};
pub use overlay::Overlay;
pub use query::{
    Comparison, Direction, Filter, ImageQuery, NumberField, Page, QueryError, SortKey, TextField, TimeField,
    Viewer, VisibilityFilter,
};
pub use refusal::Refusal;
pub use ticket::{CONTACTS_MAX, InvalidTicket, JoinTicket};
