//! What nodes say about themselves while they look for each other, and how it is read.
//!
//! All of it comes from whoever is on the network. Reading is total and bounded: what is not exactly as
//! a node would have said it is nothing.
//!
//! * mDNS: besides libp2p's own address, the peer port as `/ip4/ADDRESS/udp/PORT`, without a protocol on top.
//! * identify: the agent text `peerglass/1 CLUSTER HOST:PORT`.
//! * gossip: `version:u8 postcard(News)`.

use std::net::{IpAddr, SocketAddr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use peerglass_catalog::node::NODE_TEXT_BYTES_MAX;
use peerglass_catalog::{NodeId, PeerKey};
use serde::{Deserialize, Serialize};

use super::Introduction;

const VERSION: u8 = 1;
const AGENT: &str = "peerglass/1";
/// Longest news believed, in bytes: an address and some numbers.
pub(super) const NEWS_BYTES_MAX: usize = NODE_TEXT_BYTES_MAX + 64;

/// What a member tells the others of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Index of the log entry with the newest list of members it knows.
    pub members_at: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Where its own peer port is reached.
    pub address: String,
}

impl News {
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        postcard::to_extend(self, vec![VERSION]).ok().filter(|bytes| bytes.len() <= NEWS_BYTES_MAX)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > NEWS_BYTES_MAX {
            return None;
        }
        let body = bytes.strip_prefix(&[VERSION])?;
        let (news, rest) = postcard::take_from_bytes::<Self>(body).ok()?;
        (rest.is_empty() && is_reachable(&news.address)).then_some(news)
    }
}

pub(super) fn agent_text(me: &Introduction) -> String {
    format!("{AGENT} {} {}", me.cluster, me.address)
}

/// The peer port that an agent text of the same cluster names.
pub(super) fn agent_address(text: &str, me: &Introduction) -> Option<String> {
    let cluster = me.cluster.to_string();
    let address = text.strip_prefix(AGENT)?.strip_prefix(' ')?.strip_prefix(&cluster)?.strip_prefix(' ')?;
    is_reachable(address).then(|| address.to_owned())
}

/// Whether it looks like `host:port` that somebody could be dialled at.
fn is_reachable(address: &str) -> bool {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return is_unicast(address);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    address.len() <= NODE_TEXT_BYTES_MAX
        && address.split_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && host.bytes().all(plain) && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
}

fn is_unicast(address: SocketAddr) -> bool {
    let broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    let ip = address.ip();
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// A peer port as mDNS announces it.
pub(super) fn peer_port_multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Udp(address.port()))
}

/// The peer port that an announced address names; nothing for addresses of any other kind.
pub(super) fn peer_port(announced: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = announced.iter().filter(|part| !matches!(part, Protocol::P2p(_)));
    let address = socket_address(parts.next()?, parts.next()?)?;
    parts.next().is_none().then_some(address).filter(|address| is_unicast(*address))
}

/// Where libp2p listens, as libp2p writes it.
pub(super) fn listener_multiaddr(address: SocketAddr) -> Multiaddr {
    peer_port_multiaddr(address).with(Protocol::QuicV1)
}

/// The address of a libp2p listener.
pub(super) fn listener(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let socket = socket_address(parts.next()?, parts.next()?)?;
    matches!(parts.next(), Some(Protocol::QuicV1)).then_some(socket)
}

fn socket_address(host: Protocol<'_>, port: Protocol<'_>) -> Option<SocketAddr> {
    let Protocol::Udp(port) = port else { return None };
    if let Protocol::Ip4(ip) = host {
        Some((ip, port).into())
    } else if let Protocol::Ip6(ip) = host {
        Some((ip, port).into())
    } else {
        None
    }
}

/// The key behind a peer id, if it is of the kind nodes have.
pub(super) fn key_of(peer: &PeerId) -> Option<PeerKey> {
    peer.to_string().parse().ok()
}

/// The peer id of a key; nothing if the bytes are no point of the curve.
pub(super) fn peer_id(key: PeerKey) -> Option<PeerId> {
    let public = libp2p::identity::ed25519::PublicKey::try_from_bytes(&key.0).ok()?;
    Some(libp2p::identity::PublicKey::from(public).to_peer_id())
}

#[cfg(test)]
mod tests;
