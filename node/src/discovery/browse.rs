//! Looking on the LAN for nodes with known keys, without being a member yet.
//!
//! It only listens to mDNS and asks there. Nobody is dialled and nobody is let in: what is found is tried
//! on the peer port, where the other end has to prove its key.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use libp2p::futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, mdns};
use peerglass_catalog::PeerKey;

use super::announcement;
use super::behaviour::{build, mdns_config};
use crate::peers::NodeKey;

/// Addresses tried for one key. A node has some interfaces; a liar has as many as it likes.
const ADDRESSES_MAX: usize = 8;

/// Why nobody can be looked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot look for nodes on the LAN: {0}")]
pub struct BrowseError(#[from] std::io::Error);

/// Looks for some nodes.
pub(crate) struct Browser {
    swarm: Swarm<mdns::tokio::Behaviour>,
    /// What was found of each, so that it is found once.
    wanted: BTreeMap<PeerKey, Vec<SocketAddr>>,
    /// Found and not handed out yet. Bounded by what is noted of the wanted.
    waiting: VecDeque<(PeerKey, SocketAddr)>,
    strangers: u64,
}

impl Browser {
    pub(crate) fn new(key: &NodeKey, wanted: impl IntoIterator<Item = PeerKey>) -> Result<Self, BrowseError> {
        let key = key.libp2p();
        let mdns = mdns::tokio::Behaviour::new(mdns_config(), key.public().to_peer_id())?;
        let wanted = wanted.into_iter().map(|key| (key, Vec::new())).collect();
        Ok(Self { swarm: build(&key, mdns), wanted, waiting: VecDeque::new(), strangers: 0 })
    }

    /// The next peer port that is announced for one of the wanted nodes. Waits for ever; can be dropped
    /// and asked again.
    pub(crate) async fn next(&mut self) -> (PeerKey, SocketAddr) {
        loop {
            if let Some(found) = self.waiting.pop_front() {
                return found;
            }
            let event = self.swarm.select_next_some().await;
            let SwarmEvent::Behaviour(mdns::Event::Discovered(found)) = event else { continue };
            for (peer, address) in found {
                if let (Some(key), Some(port)) =
                    (announcement::key_of(&peer), announcement::peer_port(&address))
                {
                    self.note(key, port);
                }
            }
        }
    }

    fn note(&mut self, key: PeerKey, port: SocketAddr) {
        match self.wanted.get_mut(&key) {
            Some(known) if known.len() < ADDRESSES_MAX && !known.contains(&port) => {
                known.push(port);
                self.waiting.push_back((key, port));
            }
            Some(_) => {}
            None => self.strangers = self.strangers.saturating_add(1),
        }
    }

    /// Peer ports seen of nodes that nobody looked for.
    pub(crate) fn strangers(&self) -> u64 {
        self.strangers
    }
}
