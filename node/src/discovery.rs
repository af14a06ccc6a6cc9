//! Who is out there: where other nodes may be, before anybody has talked to them.
//!
//! [`Discovery`] is what a node asks of its surroundings: peers seen, peers gone, news. On a machine it is
//! [`Neighbourhood`] (libp2p: mDNS, identify, gossip); a simulation brings its own.
//!
//! # What it promises
//!
//! * What is found is a hint, never the truth. An address is believed when whoever answers there proves,
//!   in TLS on the peer port, to have the key that was looked for; news makes a node ask, nothing more.
//! * Only members talk to a running node here. Strangers learn from mDNS that it exists, and end at the
//!   handshake.
//! * A flood fills bounded tables and is dropped.
//!
//! Who is a member is up to consensus, connections are up to the peer port.

mod announcement;
mod behaviour;
mod browse;
mod lookout;
mod neighbourhood;
mod sightings;

use std::collections::BTreeMap;

use peerglass_catalog::PeerKey;
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_consensus::ClusterId;
use tokio::sync::{mpsc, watch};

pub use announcement::News;
pub use browse::BrowseError;
pub(crate) use browse::Browser;
pub(crate) use lookout::Lookout;
pub use neighbourhood::Neighbourhood;
pub(crate) use sightings::Sightings;

/// Findings that wait for the node. More are dropped: each is only a hint, and is given again.
pub(crate) const FINDINGS_WAITING_MAX: usize = 64;

/// Finds other nodes, and says to them what this one has to say.
pub trait Discovery: Send {
    /// Look until dropped. `circle` says who belongs to the node and what it has to tell them.
    fn run(
        self: Box<Self>,
        me: Introduction,
        circle: watch::Receiver<Circle>,
        found: mpsc::Sender<Finding>,
    ) -> BoxFuture<'static, ()>;
}

/// How a node presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Where its peer port is reached: `host:port`.
    pub address: String,
}

/// Whom a node wants to find, and what it has to tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circle {
    /// The other members, and where the catalog says they are.
    pub members: BTreeMap<PeerKey, String>,
    /// What this node has to tell.
    pub news: News,
}

/// Something was found out. Nobody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The node with this key says, or somebody says for it, that its peer port is there.
    Seen {
        /// Who.
        key: PeerKey,
        /// Where: `host:port`.
        address: String,
    },
    /// Nothing is heard of it any more.
    Gone {
        /// Who.
        key: PeerKey,
    },
    /// A member told its news.
    News {
        /// Who signed them.
        key: PeerKey,
        /// What it told.
        news: News,
    },
}
