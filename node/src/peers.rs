//! The node among other nodes: its key, its port, who is let in.
//!
//! One UDP port carries everything between nodes, and the TCP port of the same number image bytes where it can be
//! reached ([`PeerPort`]). This module opens connections for the
//! parts that want one, accepts those of others and hands each to the part it is for. Consensus knows
//! who is a member; whoever is not gets no further than the handshake, unless it brings a join token.

mod accept;
mod admit;
mod bytes;
mod candidates;
mod certificate;
mod dial;
mod join;
mod key;
mod port;
mod tcp;
mod tls;
mod verifier;

pub(crate) use accept::Doors;
pub(crate) use bytes::BytePeers;
pub(crate) use dial::Dialer;
pub use join::{JoinError, Joined, Search, join};
pub use key::{KeyError, NodeKey};
pub use port::{DialError, PeerPort, PortChance, PortError, Purpose};
