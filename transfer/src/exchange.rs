//! Bytes between nodes: answering peers, pulling what is missing, having others hold copies.
//!
//! `wire` is the protocol. The asking side is `ask` (one peer), `follow` (news of all peers), `pull` and `pulls` (a
//! whole manifest by the plan of `swarm`, once for all who wait), and `supply` with `sources` (what one download lacks).
//! The answering side is `serve` with `outbox` (what is sent when) and `read_ahead` (how much of it is in memory),
//! `tell` with `having` (news for those who follow), and `hold` for requests to hold something. `ahead` has nodes fetch
//! an upload that goes on. `keep` fetches what this node is to keep, and asks and answers whether nodes do. `survey` is
//! for operators, `lies` for simulations.
//!
//! # What it promises
//!
//! * What comes from a peer is opened if it is compressed, within the length that was asked for, and compared with its
//!   BLAKE3 name before it is written or handed out.
//! * No peer can make this node wait without end, take memory without bound, or panic.
//!
//! # What it leaves to others
//!
//! Who the peers are (`Peers`), and which manifests are worth keeping: what was pulled and is named by
//! no image is reclaimed like any other.

mod ahead;
mod ask;
mod follow;
mod having;
mod hold;
mod keep;
mod lies;
mod outbox;
mod pull;
mod pulls;
mod read_ahead;
mod replicate;
mod serve;
mod sources;
mod supply;
mod survey;
mod tell;
mod wire;

pub(crate) use ahead::{Written, run as fetch_ahead};
pub(crate) use ask::{Want, WantLen};
pub use keep::FetchError;
pub(crate) use keep::{fetch, say_they_keep};
pub(crate) use lies::Lies;
pub use lies::{Lie, Temptation};
pub(crate) use outbox::Outbox;
pub(crate) use pull::PAGE_BYTES_MAX;
pub(crate) use pulls::Pulls;
pub(crate) use read_ahead::ReadAhead;
pub use replicate::ReplicateError;
pub(crate) use replicate::replicate;
pub(crate) use serve::connection as serve;
pub(crate) use supply::{Supplied, Supply};
pub use survey::{PrefetchError, Share};
pub(crate) use survey::{prefetch, survey};
